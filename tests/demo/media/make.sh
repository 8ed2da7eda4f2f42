#!/bin/sh
# Makes the demo's clip: one CMAF ladder of 20 s from ffmpeg's own test sources.
# Run it in this folder: ./make.sh [FONT.ttf]
#
# - video: 25 frames/s, a closed GOP of exactly 2 s, no B frames, one fragment per GOP;
# - audio: AAC-LC at 32 kHz, because 20 s are then exactly 625 frames of 1024 samples and the loop
#   has no seam (at 48 kHz they would be 937.5). Fragments are cut at the first frame after each
#   2 s: ten of 63 and 62 frames (2.016 s and 1.984 s) in turn, together exactly 20 s.
set -eu
font=${1:-/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf}

video() { # name, size, bits/s, font size
  ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "testsrc2=size=$2:rate=25:duration=20" \
    -vf "drawtext=fontfile=$font:fontsize=$4:fontcolor=white:box=1:boxcolor=black@0.8:boxborderw=6:x=(w-tw)/2:y=h-th-12:text='$1 %{pts\:hms}'" \
    -c:v libx264 -profile:v baseline -level:v 3.0 -pix_fmt yuv420p -preset veryslow \
    -g 50 -keyint_min 50 -sc_threshold 0 -flags +cgop \
    -b:v "$3" -maxrate "$3" -bufsize "$3" \
    -x264-params "threads=1:nal-hrd=none" -flags:v +bitexact -fflags +bitexact -map_metadata -1 \
    -video_track_timescale 90000 -use_editlist 0 \
    -movflags +frag_keyframe+empty_moov+default_base_moof+cmaf \
    "$1.mp4"
}

video v144 256x144 100k 18
video v240 426x240 200k 28
video v360 640x360 350k 40

ffmpeg -hide_banner -loglevel error -y \
  -f lavfi -i "sine=frequency=220:beep_factor=4:sample_rate=32000:duration=21" \
  -af "volume=0.5" -ac 2 -c:a aac -profile:a aac_low -b:a 48k -frames:a 625 \
  -flags:a +bitexact -fflags +bitexact -map_metadata -1 -use_editlist 0 \
  -f hls -hls_time 2 -hls_playlist_type vod -hls_segment_type fmp4 -hls_flags single_file \
  -hls_segment_filename a48.mp4 a48.tmp.m3u8
rm -f a48.tmp.m3u8
