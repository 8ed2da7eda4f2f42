//! Playlists and MPDs as packagers, DRM and ad insertion make them, and what a mutation makes of them.

use proptest::prelude::*;

/// Multivariant playlists.
pub(crate) const HLS: [&str; 7] = [
    // A packager's, with everything that Apple's authoring guide asks for.
    "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-START:TIME-OFFSET=-12.5,PRECISE=YES\n\n\
     #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aud1\",LANGUAGE=\"en\",NAME=\"English\",AUTOSELECT=YES,DEFAULT=YES,CHANNELS=\"2\",URI=\"a1/prog_index.m3u8\"\n\
     #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aud2\",LANGUAGE=\"en\",NAME=\"English\",AUTOSELECT=YES,DEFAULT=YES,CHANNELS=\"6\",URI=\"a2/prog_index.m3u8\"\n\
     #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc1\",LANGUAGE=\"en\",NAME=\"English\",INSTREAM-ID=\"CC1\"\n\
     #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"sub1\",LANGUAGE=\"en\",NAME=\"English\",FORCED=NO,URI=\"s1/en/prog_index.m3u8\"\n\n\
     #EXT-X-I-FRAME-STREAM-INF:AVERAGE-BANDWIDTH=183689,BANDWIDTH=187492,CODECS=\"avc1.64002a\",RESOLUTION=1920x1080,URI=\"v7/iframe_index.m3u8\"\n\n\
     #EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=2165224,BANDWIDTH=2215219,CODECS=\"avc1.640020,mp4a.40.2\",RESOLUTION=960x540,FRAME-RATE=59.940,CLOSED-CAPTIONS=\"cc1\",AUDIO=\"aud1\",SUBTITLES=\"sub1\"\nv5/prog_index.m3u8\n\
     #EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=7962844,BANDWIDTH=7976430,CODECS=\"hvc1.2.4.L123.B0,ec-3\",RESOLUTION=1920x1080,FRAME-RATE=59.940,VIDEO-RANGE=PQ,CLOSED-CAPTIONS=\"cc1\",AUDIO=\"aud2\",SUBTITLES=\"sub1\"\nv9/prog_index.m3u8\n",
    // DRM, Windows line endings, signed URLs.
    "#EXTM3U\r\n#EXT-X-VERSION:7\r\n\
     #EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"skd://f2b8\",KEYFORMAT=\"com.apple.streamingkeydelivery\",KEYFORMATVERSIONS=\"1\"\r\n\
     #EXT-X-SESSION-KEY:METHOD=SAMPLE-AES-CTR,URI=\"data:text/plain;base64,AAAAOHBzc2g=\",KEYID=0x9eb4050de44b4802932e27d75083e266,KEYFORMAT=\"urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed\"\r\n\
     #EXT-X-STREAM-INF:BANDWIDTH=628000,CODECS=\"mp4a.40.2,avc1.42c00d\",RESOLUTION=320x180,HDCP-LEVEL=NONE\r\n\
     http://origin.example/media/vod/lake/320.m3u8?hdnts=exp=1700000000~acl=/*~hmac=0a1b\r\n\
     #EXT-X-STREAM-INF:BANDWIDTH=2928000,CODECS=\"mp4a.40.2,avc1.640028\",RESOLUTION=1280x720,HDCP-LEVEL=TYPE-0,ALLOWED-CPC=\"com.widevine.alpha:L1\"\r\n\
     720.m3u8?Policy=eyJTdGF0&Signature=AbC~d-_&Key-Pair-Id=K2J\r\n",
    // Ad insertion on another host beside content of ours.
    "#EXTM3U\n#EXT-X-VERSION:3\n## session 9f\n\
     #EXT-X-STREAM-INF:BANDWIDTH=1500000,RESOLUTION=640x360\nhttps://ssai.example/v1/manifest/5a/9f/0.m3u8?aws.sessionId=9f\n\
     #EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1280x720\n1.m3u8\n",
    // Steered already, by two hosts.
    "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"/steering?video=00012\",PATHWAY-ID=\"CDN-A\"\n\
     #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"A\",NAME=\"English\",URI=\"eng.m3u8\"\n\
     #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"B\",NAME=\"English\",URI=\"https://b.example.com/content/eng.m3u8\"\n\
     #EXT-X-STREAM-INF:BANDWIDTH=1280000,AUDIO=\"A\",PATHWAY-ID=\"CDN-A\",STABLE-VARIANT-ID=\"low\"\nlow/video.m3u8\n\
     #EXT-X-STREAM-INF:BANDWIDTH=7680000,AUDIO=\"A\",PATHWAY-ID=\"CDN-A\",STABLE-VARIANT-ID=\"hi\"\nhi/video.m3u8\n\
     #EXT-X-STREAM-INF:BANDWIDTH=1280000,AUDIO=\"B\",PATHWAY-ID=\"CDN-B\",STABLE-VARIANT-ID=\"low\"\nhttps://b.example.com/low/video.m3u8\n",
    // Variables, pictures, session data.
    "\u{feff}#EXTM3U\n#EXT-X-VERSION:11\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"video/2026\"\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n\
     #EXT-X-SESSION-DATA:DATA-ID=\"com.example.movie.title\",VALUE=\"A, B = C\",LANGUAGE=\"en\"\n\
     #EXT-X-SESSION-DATA:DATA-ID=\"com.example.lyrics\",URI=\"lyrics.json\"\n\
     #EXT-X-IMAGE-STREAM-INF:BANDWIDTH=12000,RESOLUTION=320x180,CODECS=\"jpeg\",URI=\"{$v}/thumbs.m3u8\"\n\
     #EXT-X-STREAM-INF:BANDWIDTH=900000,PROGRAM-ID=1\n{$v}/low.m3u8?token={$token}\n",
    // Radio.
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.5\"\nlow.m3u8\n\
     #EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\nhigh.m3u8",
    // Endings of all sorts, odd lines.
    "#EXTM3U \n\n\r\n# comment, = \"\n#EXT-X-VENDOR-THING:\r\n#EXT-X-STREAM-INF: BANDWIDTH=1 ,NAME=\"a b\",\r\n\n# between\n  ../lake/a.m3u8  \r\n#EXT-X-ENDTHING\n",
];

/// MPDs.
pub(crate) const DASH: [&str; 4] = [
    // Live, with a clock, steering of somebody else's and events.
    r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" publishTime="2026-01-01T00:00:00Z" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT1M">
  <ProgramInformation moreInformationURL="https://example.org"><Title>Live &amp; loud</Title></ProgramInformation>
  <BaseURL availabilityTimeOffset="1.500" availabilityTimeComplete="false">main/</BaseURL>
  <Location>http://origin.example/live/river/manifest.mpd?id=7</Location>
  <PatchLocation ttl="60">manifest.mpp</PatchLocation>
  <ServiceDescription id="0"><Latency target="3500"/></ServiceDescription>
  <ContentSteering defaultServiceLocation="alpha beta" queryBeforeStart="true" proxyServerURL="http://127.0.0.1/">https://old.example/s</ContentSteering>
  <Period id="P0" start="PT0S">
    <EventStream schemeIdUri="urn:scte:scte35:2014:xml+bin" timescale="1"><Event presentationTime="3"><scte35:Signal xmlns:scte35="http://www.scte.org/schemas/35/2016"><scte35:Binary>/DAlAAA=</scte35:Binary><scte35:BaseURL>not/ours/</scte35:BaseURL></scte35:Signal></Event></EventStream>
    <AdaptationSet id="1" contentType="video" mimeType="video/mp4" segmentAlignment="true">
      <ContentProtection schemeIdUri="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"><cenc:pssh xmlns:cenc="urn:mpeg:cenc:2013">AAAAW3Bzc2g=</cenc:pssh></ContentProtection>
      <SegmentTemplate timescale="1" media="$RepresentationID$/$Number$.m4s" initialization="$RepresentationID$/init.mp4" duration="2" startNumber="0"/>
      <Representation id="V300" bandwidth="300000" codecs="avc1.64001e" width="640" height="360"/>
      <Representation id="V2400" bandwidth="2400000" codecs="avc1.64001f" width="1280" height="720"/>
    </AdaptationSet>
  </Period>
  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="time"/>
</MPD>
"#,
    // Several periods: content, an advertisement, content from the origin's root.
    r#"<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1H"><!-- ads -->
<Period id="1" duration="PT10S"><BaseURL serviceLocation="x">part-1/</BaseURL><AdaptationSet mimeType="video/mp4"><SegmentTemplate media="/live/river/part-1/$Number$.m4s" duration="2"/><Representation id="1" bandwidth="1"/></AdaptationSet></Period>
<Period id="ad" duration="PT10S"><BaseURL>https://ads.example/x/</BaseURL><AdaptationSet mimeType="video/mp4"><BaseURL>/y/</BaseURL><Representation id="1" bandwidth="1"><BaseURL>z.mp4</BaseURL><SegmentBase indexRange="0-1"/></Representation></AdaptationSet></Period>
<Period id="2"><BaseURL>http://origin.example/archive/</BaseURL><AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="1"/></AdaptationSet></Period></MPD>"#,
    // On demand: one file, sets of two codecs.
    "<?xml version='1.0'?>\r\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'>\r\n <BaseURL>film.mp4</BaseURL>\r\n <Period>\r\n  \
     <AdaptationSet mimeType='video/mp4' codecs='avc1.640028'><Representation id='1' bandwidth='800000'/><Representation id='2' bandwidth='3000000'/></AdaptationSet>\r\n  \
     <AdaptationSet mimeType='video/mp4' codecs='hvc1.2.4.L150'><Representation id='3' bandwidth='9000000'/></AdaptationSet>\r\n  \
     <AdaptationSet mimeType='audio/mp4' lang='en'><Representation id='4' bandwidth='128000'/></AdaptationSet>\r\n </Period>\r\n</MPD>\r\n",
    // A prefix, CDATA, instructions.
    "\u{feff}<?xml version=\"1.0\"?><?x y?><d:MPD xmlns:d=\"urn:mpeg:dash:schema:mpd:2011\"><d:Period a=\">\"><![CDATA[<MPD>]]></d:Period></d:MPD>",
];

/// One change of a text.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    kind: u8,
    at: prop::sample::Index,
    length: u8,
    word: prop::sample::Index,
}

/// Some changes.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = (any::<u8>(), any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    let one = one.prop_map(|(kind, at, length, word)| Change { kind, at, length, word });
    proptest::collection::vec(one, 1..6)
}

const WORDS: [&str; 34] = [
    "\"",
    ",",
    "=",
    "\n",
    "\r\n",
    "\r",
    "#",
    "#EXTM3U",
    "#EXT-X-STREAM-INF:",
    "#EXT-X-MEDIA:",
    "URI=\"",
    "{$v}",
    "{$",
    "://",
    "//",
    "../",
    "%2e%2e/",
    "\\",
    "\0",
    "\u{feff}",
    "é",
    "<",
    ">",
    "&",
    "&#0;",
    "&x;",
    "</",
    "<MPD>",
    "<BaseURL>",
    "</BaseURL>",
    "<Period/>",
    "<!DOCTYPE x>",
    "xlink:href='x'",
    "'",
];

/// `sample` with `changes` made; not always UTF-8.
pub(crate) fn mutated(sample: &str, changes: &[Change]) -> Vec<u8> {
    let mut bytes = sample.as_bytes().to_vec();
    for Change { kind, at, length, word } in changes {
        let at = at.index(bytes.len() + 1);
        let end = (at + usize::from(*length)).min(bytes.len());
        let word = WORDS[word.index(WORDS.len())].as_bytes();
        match kind % 6 {
            0 => drop(bytes.splice(at..at, word.iter().copied())),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let twice = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, twice));
            }
            3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= *length),
            4 => drop(bytes.splice(at..(at + 1).min(end), word.iter().copied())),
            _ => bytes.truncate(at.max(8)),
        }
    }
    bytes
}
