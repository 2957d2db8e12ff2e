#!/usr/bin/env bash
# Makes demo.flv (H.264 + AAC) and demo-opus.flv (the same sound as Opus, enhanced FLV).
#
#   assets/make-demo.sh [ffmpeg]        an FFmpeg that writes Opus into FLV: 7 or later
#
# The loop is 8 s because that is where everything ends together: 240 pictures of 1/30 s, 8 GOPs of
# 1 s, 375 AAC frames of 1024 samples and 400 Opus frames of 20 ms, at 48 kHz. The scene is periodic
# in 8 s; three rounds are encoded and the middle one is cut out, so the first frames of the clip
# were made knowing the last ones and a player hears no seam.
set -euo pipefail
cd "$(dirname "$0")"
ffmpeg=${1:-${RINGSIDE_FFMPEG9:-ffmpeg}}
font=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
[ -r "$font" ] || { echo "missing $font (Debian: fonts-dejavu-core)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One round: a ring with a light running round it, eight posts that light up one per second with the
# bass note, and a ball that touches the floor on every beat of the melody. Distances are in pixels,
# W/H 640x360, the ring's centre is 320,158.
light='pow(0.5+0.5*cos(atan2(Y-158,X-320)-PI*T/2),10)'
ring='exp(-pow((hypot(X-320,Y-158)-104)/5,2))'
halo='exp(-abs(hypot(X-320,Y-158)-104)/26)'
post='exp(-(pow(X-320-104*cos(PI*floor(T)/4),2)+pow(Y-158-104*sin(PI*floor(T)/4),2))/260)*exp(-3*mod(T,1))'
ball='clip(16-hypot(X-320,Y-(226-92*4*mod(T*2,1)*(1-mod(T*2,1)))),0,1.5)/1.5'
floor='exp(-pow((Y-246)/3,2))*exp(-pow((X-320)/56,2))*exp(-7*mod(T*2,1))'
luma="min(235,26+16*Y/H+6*sin(X/90+PI*T/4)+$ring*(48+130*$light)+26*$halo*$light+150*$post+178*$ball+120*$floor)"
blue="142+12*cos(Y/70-PI*T/4)-26*$ring*$light-10*$halo*$light-22*$ball+14*$floor"
red="118+8*sin(X/120+PI*T/2)+24*$ring*$light+14*$halo*$light+12*$post-4*$ball+30*$floor"

# One note per half second in two voices that overlap, so each may ring for a whole second;
# a bass note per second under them.
even='eq(k,0)*0+eq(k,1)*7+eq(k,2)*9+eq(k,3)*4+eq(k,4)*5+eq(k,5)*9+eq(k,6)*7+eq(k,7)*2'
odd='eq(k,0)*4+eq(k,1)*12+eq(k,2)*7+eq(k,3)*0+eq(k,4)*9+eq(k,5)*12+eq(k,6)*11+eq(k,7)*7'
bass='eq(k,0)*0+eq(k,1)*0+eq(k,2)*9+eq(k,3)*9+eq(k,4)*5+eq(k,5)*5+eq(k,6)*7+eq(k,7)*7'
step='mod(floor(t),8)'
late='mod(floor(t+7.5),8)'
tone() { # steps, beat index, seconds since the note began, base frequency, decay
  local semitones=${1//k/ld(0)}
  echo "st(0,$2);st(1,$4*pow(2,($semitones)/12));st(2,$3);min(1,80*ld(2))*min(1,30*(1-ld(2)))*exp(-$5*ld(2))*(sin(2*PI*ld(1)*ld(2))+0.28*sin(4*PI*ld(1)*ld(2))*exp(-3*ld(2)))"
}
first=$(tone "$even" "$step" 'mod(t,1)' 392 3.2)
second=$(tone "$odd" "$late" 'mod(t+0.5,1)' 392 3.2)
low=$(tone "$bass" "$step" 'mod(t,1)' 98 1.2)

"$ffmpeg" -hide_banner -loglevel error -y \
  -f lavfi -i "color=black:s=640x360:r=30:d=8,format=yuv444p,geq=lum='$luma':cb='$blue':cr='$red',format=yuv420p,drawtext=fontfile=$font:text='ringside demo':fontcolor=white@0.95:fontsize=40:x=(w-text_w)/2:y=294,drawtext=fontfile=$font:text='%{eif\:mod(floor(t),8)+1\:d} / 8':fontcolor=white@0.6:fontsize=17:x=w-text_w-22:y=20,drawbox=x=0:y=354:w=iw:h=6:color=white@0.12:t=fill" \
  -frames:v 240 -c:v ffv1 "$work/picture.nut"
"$ffmpeg" -hide_banner -loglevel error -y \
  -f lavfi -i "aevalsrc=exprs='$first':s=48000:d=24" -f lavfi -i "aevalsrc=exprs='$second':s=48000:d=24" \
  -f lavfi -i "aevalsrc=exprs='$low':s=48000:d=24" \
  -filter_complex '[0][1][2]amerge=inputs=3,pan=stereo|c0=0.26*c0+0.14*c1+0.26*c2|c1=0.14*c0+0.26*c1+0.26*c2' \
  -c:a pcm_s16le "$work/sound.wav"

"$ffmpeg" -hide_banner -loglevel error -y -stream_loop 2 -i "$work/picture.nut" -i "$work/sound.wav" \
  -map 0:v -map 1:a -t 24 \
  -c:v libx264 -preset veryslow -profile:v baseline -level 3.0 -pix_fmt yuv420p \
  -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv \
  -b:v 560k -maxrate 900k -bufsize 700k -bf 0 -g 30 -keyint_min 30 -sc_threshold 0 \
  -c:a aac -b:a 112k -ar 48000 -flags +bitexact "$work/aac.nut"
"$ffmpeg" -hide_banner -loglevel error -y -i "$work/sound.wav" \
  -c:a libopus -b:a 80k -vbr constrained -frame_duration 20 -flags +bitexact "$work/opus.nut"

# Opus packets start 6.5 ms before a whole second (the encoder's delay), AAC packets on it.
middle='noise=drop=lt(pts*tb\,7.9995)+gte(pts*tb\,15.9995)'
opus_middle='noise=drop=lt(pts*tb\,7.99)+gte(pts*tb\,15.99)'
# setts puts the first packet at 0 and every packet where its number says, free of the encoder's
# delay; the loop's length does not depend on rounding.
"$ffmpeg" -hide_banner -loglevel error -y -i "$work/aac.nut" -map 0 -c copy \
  -bsf:v "$middle,setts=ts=N/30/TB" -bsf:a "$middle,setts=ts=N*1024/48000/TB" \
  -map_metadata -1 -fflags +bitexact -flvflags no_duration_filesize demo.flv
"$ffmpeg" -hide_banner -loglevel error -y -i "$work/opus.nut" -map 0 -c copy \
  -bsf:a "$opus_middle,setts=ts=N*960/48000/TB" \
  -map_metadata -1 -fflags +bitexact -flvflags no_duration_filesize demo-opus.flv
ls -l demo.flv demo-opus.flv
