//! A 403: a matter of the path, or of rights?
//!
//! Who may not watch gets it on every pathway alike. A pathway whose tokens are signed wrongly gives it to its own
//! viewers alone.

/// Fewer views prove nothing, on either side.
const VIEWS_MIN: u64 = 3;
/// ln 1000: chance alone makes such a crowd less often than once in a thousand times.
const EVIDENCE_MIN: f64 = 6.907_755_278_982_137;

/// Views of one pathway and of its neighbours (all other pathways of the same region and property).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Distinct views that got a 403 here.
    pub here: u64,
    /// Distinct views that got one elsewhere.
    pub elsewhere: u64,
    /// Views here.
    pub views_here: u64,
    /// Views elsewhere.
    pub views_elsewhere: u64,
}

impl Denied {
    /// Whether the pathway has the 403 and its neighbours don't: were it a matter of rights, each denied view would be
    /// here with the pathway's share of views, and so many of them here have (by Chernoff's bound for the binomial
    /// distribution, exp(−n · KL(here ÷ n ‖ share))) a probability of less than 0.001.
    #[must_use]
    pub fn is_path(self) -> bool {
        let (here, elsewhere) = (self.views_here.max(self.here), self.views_elsewhere.max(self.elsewhere));
        if self.here < VIEWS_MIN || elsewhere < VIEWS_MIN {
            return false;
        }
        let share = here as f64 / (here + elsewhere) as f64;
        let denied = (self.here + self.elsewhere) as f64;
        let part = self.here as f64 / denied;
        if part <= share {
            return false;
        }
        let of_elsewhere = if part < 1.0 { (1.0 - part) * ((1.0 - part) / (1.0 - share)).ln() } else { 0.0 };
        denied * (part * (part / share).ln() + of_elsewhere) > EVIDENCE_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_path(here: u64, elsewhere: u64, views_here: u64, views_elsewhere: u64) -> bool {
        Denied { here, elsewhere, views_here, views_elsewhere }.is_path()
    }

    #[test]
    fn one_pathway_alone_is_path_and_all_alike_is_rights() {
        assert!(is_path(20, 0, 50, 50), "its tokens are wrong");
        assert!(is_path(180, 1, 200, 20), "also where most views are on it");
        assert!(!is_path(20, 20, 50, 50), "a title that none of them may watch");
        assert!(!is_path(20, 5, 400, 100), "as many as its share");
        assert!(!is_path(0, 30, 50, 50), "the neighbour");
    }

    #[test]
    fn few_views_or_no_neighbour_prove_nothing() {
        assert!(!is_path(2, 0, 2, 1_000));
        assert!(!is_path(9, 0, 50, 50), "1 in 512 may be chance");
        assert!(is_path(10, 0, 50, 50), "1 in 1024 is less than 1 in 1000");
        assert!(!is_path(50, 0, 50, 0), "nobody to compare with");
        assert!(!is_path(50, 0, 50, 2));
        assert!(is_path(12, 0, 0, 60), "those who left it count still");
    }
}
