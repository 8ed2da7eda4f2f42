//! User agent → device class, system and browser, in the coarse words of beacons: enough to compare, too little to
//! recognise anybody. The user agent itself is kept nowhere.
//!
//! woothee knows computers, phones and most consoles. Television sets it takes for phones or computers, because their
//! browsers say so; the table [`OWN`] is asked first.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use woothee::parser::Parser;

/// Bytes of a user agent that are read; browsers stay below 300.
const AGENT_MAX_BYTES: usize = 512;
/// Answers kept. A power of two; some thousand agents make up almost all of any audience.
const SLOTS: usize = 4096;

/// Every device class.
pub const CLASSES: [&str; 7] = ["desktop", "mobile", "tablet", "tv", "stb", "console", "other"];
/// Stands for a device class where nothing tells.
pub const UNKNOWN: &str = "unknown";

/// `word` as one of [`CLASSES`] (`other` if it is none of them), or [`UNKNOWN`]: so that a table by class stays small
/// whatever senders write.
#[must_use]
pub fn class_of(word: Option<&str>) -> &'static str {
    let Some(word) = word else { return UNKNOWN };
    CLASSES.into_iter().find(|class| *class == word).unwrap_or("other")
}

/// What a user agent says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `desktop`, `mobile`, `tablet`, `tv`, `stb`, `console` or `other`; `None` if there is nothing to read.
    pub class: Option<&'static str>,
    /// System: `windows`, `android`, `tizen` …
    pub os: Option<&'static str>,
    /// Browser: `chrome`, `safari` …
    pub browser: Option<&'static str>,
}

/// Words that only one kind of device says, most telling first: (word, class, system).
const OWN: [(&str, &str, Option<&str>); 26] = [
    // Consoles: developer.mozilla.org, "User-Agent strings"; "PlayStation 5" stands beside "Mozilla/5.0".
    ("PlayStation", "console", Some("playstation")),
    ("PLAYSTATION", "console", Some("playstation")),
    ("Xbox", "console", Some("xbox")),
    ("Nintendo", "console", Some("nintendo")),
    // developer.roku.com, "User agent": `Roku/DVP-9.10 (…)`; sticks, boxes and sets alike.
    ("Roku", "tv", Some("roku")),
    // developer.amazon.com, "Identify Fire TV devices": every model begins with AFT.
    ("AFT", "tv", Some("fireos")),
    // developers.google.com/cast, "User agent": CrKey is Cast's platform.
    ("CrKey", "tv", Some("cast")),
    // Apple's AVPlayer on tvOS: `AppleTV11,1/11.1`, `AppleCoreMedia/1.0.0.… (Apple TV; …)`.
    ("AppleTV", "tv", Some("tvos")),
    ("Apple TV", "tv", Some("tvos")),
    // webostv.developer.lge.com, "Web engine": `Web0S` with a zero; NetCast before it.
    ("Web0S", "tv", Some("webos")),
    ("WebOS", "tv", Some("webos")),
    ("webOS", "tv", Some("webos")),
    ("NetCast", "tv", Some("netcast")),
    // developer.samsung.com/smarttv, "User agent": `Tizen` with `TV`; Orsay's `SMART-TV` before it. Tizen watches and
    // phones say `Mobile`.
    ("SMART-TV; LINUX; Tizen", "tv", Some("tizen")),
    ("Linux; Tizen", "tv", Some("tizen")),
    ("Tizen", "mobile", Some("tizen")),
    ("Maple", "tv", Some("orsay")),
    // ETSI TS 102 796 (HbbTV), 7.3.2.4: `HbbTV/1.5.1 (…)`; CE-HTML (CEA-2014) before it.
    ("HbbTV", "tv", None),
    ("CE-HTML", "tv", None),
    // developer.android.com has no word of its own; makers and Google write these.
    ("Android TV", "tv", Some("android")),
    ("GoogleTV", "tv", Some("android")),
    ("BRAVIA", "tv", Some("android")),
    ("SMART-TV", "tv", None),
    ("SmartTV", "tv", None),
    // Set-top boxes: RDK's WPE, and boxes that say so.
    ("WPE", "stb", Some("linux")),
    ("STB", "stb", None),
];

/// woothee's systems in our words; what is not here is left out.
const SYSTEMS: [(&str, &str); 12] = [
    ("Windows Phone", "windows"),
    ("Windows", "windows"),
    ("Mac OS", "macos"),
    ("iPhone", "ios"),
    ("iPad", "ios"),
    ("iPod", "ios"),
    ("iOS", "ios"),
    ("Android", "android"),
    ("ChromeOS", "chromeos"),
    ("Linux", "linux"),
    ("BSD", "bsd"),
    ("Firefox OS", "kaios"),
];

/// woothee's browsers in our words.
const BROWSERS: [(&str, &str); 9] = [
    ("Edge", "edge"),
    ("Opera", "opera"),
    ("Vivaldi", "vivaldi"),
    ("SamsungBrowser", "samsung"),
    ("Firefox", "firefox"),
    ("Chrome", "chrome"),
    ("Safari", "safari"),
    ("Internet Explorer", "ie"),
    ("Yandex Browser", "yandex"),
];

/// Reads user agents, and remembers what the last ones said by a hash that only this process can make.
pub struct Devices {
    hasher: RandomState,
    slots: Mutex<Vec<(u64, Device)>>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { hasher: RandomState::new(), slots: Mutex::new(vec![(0, Device::default()); SLOTS]) }
    }
}

impl Devices {
    /// What `agent` says.
    pub fn of(&self, agent: &str) -> Device {
        // 0 is an empty slot's.
        let hash = self.hasher.hash_one(agent) | 1;
        let at = usize::try_from(hash >> 1).unwrap_or_default() % SLOTS;
        let (known, device) = self.slots.lock().unwrap_or_else(PoisonError::into_inner)[at];
        if known == hash {
            return device;
        }
        let device = read(agent);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)[at] = (hash, device);
        device
    }
}

/// What `agent` says, without memory.
#[must_use]
pub fn read(agent: &str) -> Device {
    let end = (0..=AGENT_MAX_BYTES.min(agent.len())).rev().find(|end| agent.is_char_boundary(*end)).unwrap_or(0);
    let agent = agent[..end].trim();
    if agent.is_empty() || agent == "-" {
        return Device::default();
    }
    let said = Parser::new().parse(agent).unwrap_or_default();
    let browser = in_our_words(&BROWSERS, said.name);
    if let Some((_, class, os)) = OWN.iter().find(|(word, ..)| says(agent, word)) {
        return Device { class: Some(class), os: os.or_else(|| in_our_words(&SYSTEMS, said.os)), browser };
    }
    let class = match said.category {
        "pc" => "desktop",
        "smartphone" if is_tablet(agent) => "tablet",
        "smartphone" | "mobilephone" => "mobile",
        // Portable and other consoles; television sets of Japan have their own browser.
        "appliance" if agent.contains("InettvBrowser") => "tv",
        "appliance" => "console",
        _ => "other",
    };
    Device { class: Some(class), os: in_our_words(&SYSTEMS, said.os), browser }
}

/// Whether `word` stands in `agent`, not inside of another word.
fn says(agent: &str, word: &str) -> bool {
    let Some(at) = agent.find(word) else { return false };
    let begins = agent[..at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric());
    begins
        && match word {
            // A model goes on in capitals.
            "AFT" => agent[at + word.len()..].starts_with(|next: char| next.is_ascii_uppercase()),
            "Linux; Tizen" => !agent.contains("Mobile"),
            _ => true,
        }
}

/// Tablets of Android leave out `Mobile` (developer.chrome.com, "User agent strings"); an iPad names itself, unless it
/// asks as a Mac, which nobody can tell from here.
fn is_tablet(agent: &str) -> bool {
    agent.contains("iPad") || agent.contains("Tablet") || (agent.contains("Android") && !agent.contains("Mobile"))
}

fn in_our_words(table: &[(&'static str, &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(theirs, _)| word.contains(theirs)).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Agents as devices send them, and what they are.
    const AGENTS: [(&str, (&str, &str, &str)); 24] = [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            ("desktop", "windows", "chrome"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
            ("desktop", "windows", "edge"),
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
            ("desktop", "macos", "safari"),
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0", ("desktop", "linux", "firefox")),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            ("desktop", "chromeos", "chrome"),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            ("mobile", "ios", "safari"),
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
            ("tablet", "ios", "safari"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
            ("mobile", "android", "chrome"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            ("tablet", "android", "chrome"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36",
            ("mobile", "android", "samsung"),
        ),
        (
            "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) 85.0.4183.93/6.5 TV Safari/537.36",
            ("tv", "tizen", "safari"),
        ),
        (
            "Mozilla/5.0 (Linux; Tizen 2.3; SmartHub; SMART-TV; SmartTV; U; Maple2012) AppleWebKit/538.1+ (KHTML, like Gecko) TV Safari/538.1+",
            ("tv", "tizen", "safari"),
        ),
        (
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
            ("tv", "webos", "chrome"),
        ),
        ("Roku/DVP-12.5 (12.5.0.4178-CE)", ("tv", "roku", "")),
        (
            "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7633) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/96.0 Mobile Safari/537.36",
            ("tv", "fireos", "chrome"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 12.0; Build/STTL.240206.002) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/121.0.6167.0 Safari/537.36 CrKey/1.56.500000 DeviceType/AndroidTV",
            ("tv", "cast", "chrome"),
        ),
        ("AppleCoreMedia/1.0.0.22L572 (Apple TV; U; CPU OS 18_5 like Mac OS X; en_us)", ("tv", "tvos", "")),
        (
            "Mozilla/5.0 (Linux; Linux) AppleWebKit/537.36 (KHTML, like Gecko) HbbTV/1.6.1 (+DRM; TCL; 55C815; V8; ; ) Chrome/86.0 Safari/537.36",
            ("tv", "linux", "chrome"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 12; BRAVIA VU31) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            ("tv", "android", "chrome"),
        ),
        (
            "Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15",
            ("console", "playstation", "safari"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox Series X) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0",
            ("console", "xbox", ""),
        ),
        (
            "Mozilla/5.0 (X11; Linux armv7l) AppleWebKit/605.1.15 (KHTML, like Gecko) WPE WebKit/2.22 Safari/605.1.15 SomeBox_STB",
            ("stb", "linux", "safari"),
        ),
        ("ExoPlayerLib/2.19.1", ("other", "", "")),
        ("curl/8.5.0", ("other", "", "")),
    ];

    #[test]
    fn devices_are_told_by_what_they_say() {
        let devices = Devices::default();
        for round in ["read", "remembered"] {
            for (agent, (class, os, browser)) in AGENTS {
                let device = devices.of(agent);
                let said = (device.class, device.os.unwrap_or_default(), device.browser.unwrap_or_default());
                assert_eq!(said, (Some(class), os, browser), "{round}: {agent}");
            }
        }
    }

    #[test]
    fn whatever_senders_write_there_are_few_classes() {
        let classes = [Some("tv"), Some("toaster"), Some(""), None].map(class_of);
        assert_eq!(classes, ["tv", "other", "other", UNKNOWN]);
        assert!(AGENTS.iter().all(|(_, (class, ..))| CLASSES.contains(class)));
    }

    #[test]
    fn nothing_says_nothing_and_garbage_does_no_harm() {
        for nothing in ["", "-", "  "] {
            assert_eq!(read(nothing), Device::default());
        }
        for garbage in ["ä".repeat(5_000), "(".repeat(5_000), "Mozilla/5.0 (".into(), "\u{0}".into(), "AFT".into()] {
            assert!(read(&garbage).class.is_some(), "{garbage:?}");
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let devices = Devices::default();
        for index in 0..20_000 {
            devices.of(&format!("Mozilla/5.0 (X11; Linux x86_64; rv:{index}.0) Gecko/20100101 Firefox/{index}.0"));
        }
        assert_eq!(devices.slots.lock().expect("slots").len(), SLOTS);
    }
}
