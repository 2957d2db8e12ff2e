"""Publishes by WHIP or plays by WHEP with GStreamer's webrtcbin, and says how it went in one JSON line.

    python3 gst_peer.py publish|play URL SECONDS VIDEO_CODEC

Debian 12 has no whipsink or whepsrc: those are in plugins that it does not package. This does what they do.
The certificate is the one that GStreamer makes itself: RSA with 2048 bits.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODERS = {
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=600 ! "
            "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency",
    "VP8": "vp8enc deadline=1 keyframe-max-dist=60 target-bitrate=600000 ! rtpvp8pay picture-id-mode=2",
    "VP9": "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=60 target-bitrate=600000 ! rtpvp9pay picture-id-mode=2",
}
CLOCKS = {"H264": 90_000, "VP8": 90_000, "VP9": 90_000, "OPUS": 48_000}


def post(url, offer):
    made = urllib.request.Request(url, data=offer.encode(), method="POST", headers={"content-type": "application/sdp"})
    try:
        with urllib.request.urlopen(made, timeout=10) as answer:
            return answer.headers["location"], answer.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code} {error.read().decode()}")


def delete(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Peer:
    def __init__(self, role, url, seconds, codec):
        self.url, self.seconds, self.codec = url, seconds, codec
        self.loop = GLib.MainLoop()
        self.report = {"role": role, "tracks": {}, "state": None, "errors": []}
        self.location = None
        self.failed = False
        if role == "publish":
            self.pipeline = Gst.Pipeline.new("publisher")
            self.add_rtc()
            media = Gst.parse_bin_from_description(
                "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1,format=I420 ! "
                f"{ENCODERS[codec]} ! application/x-rtp,media=video,encoding-name={codec},payload=96 ! queue name=video "
                "audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay ! "
                "application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! queue name=audio", False)
            self.pipeline.add(media)
            for name in ("video", "audio"):
                pad = Gst.GhostPad.new(name, media.get_by_name(name).get_static_pad("src"))
                media.add_pad(pad)
                assert pad.link(self.rtc.request_pad_simple("sink_%u")) == Gst.PadLinkReturn.OK
        else:
            self.pipeline = Gst.Pipeline.new("player")
            self.add_rtc()
            for media, name, number in (("video", codec, 96), ("audio", "OPUS", 97)):
                extra = ",packetization-mode=(string)1,profile-level-id=(string)42e01f" if name == "H264" else ""
                extra += ",encoding-params=(string)2" if name == "OPUS" else ""
                caps = Gst.Caps.from_string(
                    f"application/x-rtp,media={media},encoding-name={name},clock-rate={CLOCKS[name]},payload={number}{extra}")
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.rtc.emit("add-transceiver", direction, caps)
            self.rtc.connect("pad-added", self.on_pad)
        self.rtc.connect("on-negotiation-needed", self.on_negotiation)
        self.rtc.connect("notify::connection-state", self.on_state)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)

    def add_rtc(self):
        self.rtc = Gst.ElementFactory.make("webrtcbin", "rtc")
        self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.rtc)

    def on_error(self, _bus, message):
        error, debug = message.parse_error()
        self.report["errors"].append(f"{error} {debug}")
        self.failed = True
        self.loop.quit()

    def on_state(self, rtc, _parameter):
        state = rtc.get_property("connection-state").value_nick
        self.report["state"] = state
        if state == "connected":
            GLib.timeout_add(int(self.seconds * 1000), self.loop.quit)

    def on_negotiation(self, rtc):
        rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise):
        # What is read of a description is gone with the reply, and with its last owner.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        text = offer.sdp.as_text()
        self.rtc.emit("set-local-description", offer, Gst.Promise.new())
        # Without candidates: the server answers to the address that a check comes from.
        GLib.idle_add(self.send, text)

    def send(self, text):
        location, answer = post(self.url, text)
        self.location = urllib.parse.urljoin(self.url, location)
        result, message = GstSdp.SDPMessage.new_from_text(answer)
        assert result == GstSdp.SDPResult.OK, answer
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.rtc.emit("set-remote-description", description, Gst.Promise.new())
        return False

    def on_pad(self, _rtc, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        decoder = Gst.ElementFactory.make("decodebin", None)
        decoder.connect("pad-added", self.on_decoded)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def on_decoded(self, _decoder, pad):
        sink = Gst.ElementFactory.make("fakesink", None)
        sink.set_property("sync", False)
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))
        kind = pad.get_current_caps().get_structure(0).get_name().split("/")[0]
        track = self.report["tracks"].setdefault(kind, {"frames": 0, "backwards": 0, "span": 0.0, "first": None, "last": None})

        def probe(_pad, info):
            at = info.get_buffer().pts / Gst.SECOND
            track["frames"] += 1
            track["first"] = at if track["first"] is None else track["first"]
            track["backwards"] += track["last"] is not None and at <= track["last"]
            track["last"] = at
            track["span"] = at - track["first"]
            return Gst.PadProbeReturn.OK

        pad.add_probe(Gst.PadProbeType.BUFFER, probe)

    def run(self):
        GLib.timeout_add(int((self.seconds + 20) * 1000), self.late)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.report["left"] = delete(self.location) if self.location else None
        self.pipeline.set_state(Gst.State.NULL)
        print(json.dumps(self.report))
        return 1 if self.failed else 0

    def late(self):
        self.report["errors"].append("not connected in time")
        self.failed = True
        self.loop.quit()


Gst.init(None)
sys.exit(Peer(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]).run())
