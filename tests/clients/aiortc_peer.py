"""Publishes by WHIP or plays by WHEP with aiortc, and says how it went in one JSON line.

    python aiortc_peer.py publish|play URL SECONDS [VIDEO_CODEC] [AUDIO_CODEC]
"""

import asyncio
import fractions
import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription, RTCRtpSender, MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT, RATE = 320, 240, 30


class Pictures(MediaStreamTrack):
    """A grey that changes and a bar that moves."""

    kind = "video"

    def __init__(self):
        super().__init__()
        self.count = 0
        self.began = time.monotonic()

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.count / RATE - time.monotonic()))
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for index, plane in enumerate(frame.planes):
            line = bytearray([128] * plane.line_size)
            if index == 0:
                start = self.count * 4 % WIDTH
                line[start:start + 16] = bytes([230] * len(line[start:start + 16]))
            plane.update(bytes(line) * plane.height)
        frame.pts = self.count * 90_000 // RATE
        frame.time_base = fractions.Fraction(1, 90_000)
        self.count += 1
        return frame


class Tone(MediaStreamTrack):
    """440 Hz."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.at = 0
        self.began = time.monotonic()

    async def recv(self):
        samples = 960
        await asyncio.sleep(max(0, self.began + self.at / 48_000 - time.monotonic()))
        frame = AudioFrame(format="s16", layout="stereo", samples=samples)
        data = bytearray()
        for n in range(self.at, self.at + samples):
            value = int(12_000 * math.sin(2 * math.pi * 440 * n / 48_000))
            data += value.to_bytes(2, "little", signed=True) * 2
        frame.planes[0].update(bytes(data))
        frame.sample_rate = 48_000
        frame.pts = self.at
        frame.time_base = fractions.Fraction(1, 48_000)
        self.at += samples
        return frame


class Sink:
    def __init__(self, kind):
        self.report = {"kind": kind, "frames": 0, "backwards": 0, "peak": 0, "width": 0, "span": 0.0}

    async def run(self, track):
        first = last = None
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            report = self.report
            report["frames"] += 1
            if last is not None and frame.time <= last:
                report["backwards"] += 1
            first, last = first if first is not None else frame.time, frame.time
            report["span"] = last - first
            if isinstance(frame, AudioFrame):
                # The samples, not what pads the plane.
                data = memoryview(bytes(frame.planes[0])).cast("h")
                report["peak"] = max(report["peak"], max(abs(sample) for sample in data))
            else:
                report["width"] = frame.width


def request(method, url, body=None, headers=()):
    """Status, headers and body; an error is an answer too."""
    made = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    try:
        with urllib.request.urlopen(made, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def prefer(connection, kind, codec):
    for transceiver in connection.getTransceivers():
        if transceiver.kind == kind:
            known = RTCRtpSender.getCapabilities(kind).codecs
            chosen = [one for one in known if one.mimeType.lower() == f"{kind}/{codec}".lower()]
            assert chosen, f"aiortc has no {codec}: {[one.mimeType for one in known]}"
            transceiver.setCodecPreferences(chosen)


async def main():
    role, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    connection = RTCPeerConnection()
    sinks, running = [], []
    if role == "publish":
        connection.addTransceiver(Pictures(), direction="sendonly")
        connection.addTransceiver(Tone(), direction="sendonly")
        for kind, codec in zip(("video", "audio"), sys.argv[4:]):
            prefer(connection, kind, codec)
    else:
        connection.addTransceiver("video", direction="recvonly")
        connection.addTransceiver("audio", direction="recvonly")

        @connection.on("track")
        def on_track(track):
            sink = Sink(track.kind)
            sinks.append(sink)
            running.append(asyncio.ensure_future(sink.run(track)))

    await connection.setLocalDescription(await connection.createOffer())
    headers = [("content-type", "application/sdp")]
    offer = connection.localDescription.sdp.encode()
    status, answered, text = await asyncio.to_thread(request, "POST", url, offer, headers)
    if status != 201:
        sys.exit(f"{url}: {status} {text}")
    await connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
    await asyncio.sleep(seconds)
    stats = []
    for one in (await connection.getStats()).values():
        if one.type in ("outbound-rtp", "remote-inbound-rtp", "inbound-rtp"):
            wanted = ("type", "kind", "packetsSent", "packetsReceived", "packetsLost", "fractionLost", "roundTripTime", "jitter")
            stats.append({name: getattr(one, name) for name in wanted if hasattr(one, name)})
    state = connection.connectionState
    location = urllib.parse.urljoin(url, answered["location"])
    status, _, _ = await asyncio.to_thread(request, "DELETE", location)
    await connection.close()
    print(json.dumps({"state": state, "etag": answered["etag"], "left": status, "stats": stats,
                      "tracks": [sink.report for sink in sinks]}))


asyncio.run(main())
