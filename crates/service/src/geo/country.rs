//! Countries as two letters (ISO 3166-1 alpha-2), and the continent of each.

use std::fmt;

/// Continents as `GeoNames` and `MaxMind` name them.
pub const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// Countries of each continent, in the order of [`CONTINENTS`], as `GeoNames` assigns them (countryInfo.txt: countries
/// on two continents stand once, Russia and Turkey with EU and AS, Kazakhstan with AS). XK (Kosovo) is a user-assigned
/// code that every database uses.
const BY_CONTINENT: [&str; 7] = [
    "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG \
     RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
    "AQ BV GS HM TF",
    "AE AF AM AZ BD BH BN BT CC CN CX GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH \
     PK PS QA SA SG SY TH TJ TM TR TW UZ VN YE",
    "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT \
     NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK",
    "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US \
     VC VG VI",
    "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS",
    "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
];

/// A country's two letters, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of a two-letter code in either case; `None` if no country has it (`T1`, `XX`, `A1` and the like,
    /// which proxies send for "unknown", among them).
    #[must_use]
    pub fn new(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        let country = Self(letters.map(|letter| letter.to_ascii_uppercase()));
        country.continent().map(|_| country)
    }

    /// The letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("ZZ")
    }

    /// Its continent, one of [`CONTINENTS`].
    #[must_use]
    pub fn continent(self) -> Option<&'static str> {
        let is_in = |codes: &str| codes.split_ascii_whitespace().any(|code| code.as_bytes() == self.0);
        BY_CONTINENT.iter().position(|codes| is_in(codes)).map(|index| CONTINENTS[index])
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_country_has_one_continent() {
        let all: Vec<&str> = BY_CONTINENT.iter().flat_map(|codes| codes.split_ascii_whitespace()).collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len());
        // ISO 3166-1 has 249 entries; XK is one more.
        assert_eq!(all.len(), 250);
        assert!(all.iter().all(|code| Country::new(code).is_some_and(|country| country.as_str() == *code)));
    }

    #[test]
    fn codes_of_no_country_are_none() {
        assert_eq!(Country::new("de").map(|country| country.continent()), Some(Some("EU")));
        for unknown in ["XX", "T1", "A1", "EU", "ZZ", "D", "DEU", "", "ÄÖ", "--"] {
            assert_eq!(Country::new(unknown), None, "{unknown:?}");
        }
    }
}
