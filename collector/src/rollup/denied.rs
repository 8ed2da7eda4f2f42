//! 403s of the last seconds: counted as failures of a pathway where it alone has them, else left to rights.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spillway_lake::metrics::Denied;
use spillway_wire::frame::CellKey;

use super::cell::{Cells, Crowd};

/// Evidence is gathered so long: a view asks for a segment every few seconds.
const WINDOW_MS: u64 = 10_000;
/// 403s that wait for a verdict; more are left to rights.
const WAITING_MAX: usize = 20_000;

/// A view's 403.
struct Denial {
    at_ms: u64,
    /// Of the cell; with its pathway.
    key: CellKey,
    /// Prefix and view.
    id: (u64, u64),
    /// It was counted as a failure.
    counted: bool,
}

/// 403s that may still turn out to be the path's.
#[derive(Default)]
pub(super) struct Denials(VecDeque<Denial>);

impl Denials {
    /// Takes the second's 403s, and counts as failed requests those of pathways that stand out. `now_ms` is monotonic.
    pub(super) fn judge(&mut self, cells: &mut Cells, crowd: &Crowd<'_>, now_ms: u64) {
        for (key, id) in cells.take_denied() {
            if self.0.len() < WAITING_MAX {
                self.0.push_back(Denial { at_ms: now_ms, key, id, counted: false });
            } else {
                count("entitlement", 1);
            }
        }
        while self.0.front().is_some_and(|denial| now_ms.saturating_sub(denial.at_ms) > WINDOW_MS) {
            let of_rights = self.0.pop_front().is_some_and(|denial| !denial.counted);
            count("entitlement", u64::from(of_rights));
        }
        if self.0.iter().all(|denial| denial.counted) {
            return;
        }
        let blamed = self.blamed(crowd);
        for denial in self.0.iter_mut().filter(|denial| !denial.counted) {
            let key = &denial.key;
            if blamed.contains(&(key.property.clone(), key.region.clone(), key.pathway.clone())) {
                cells.failed(key, denial.id);
                denial.counted = true;
                count("path", 1);
            }
        }
    }

    /// Property, region and pathway that stand out.
    fn blamed(&self, crowd: &Crowd<'_>) -> BTreeSet<(String, String, String)> {
        let mut denied: BTreeMap<(&str, &str), BTreeMap<&str, BTreeSet<u64>>> = BTreeMap::new();
        for Denial { key, id, .. } in &self.0 {
            let of = denied.entry((&key.property, &key.region)).or_default();
            of.entry(&key.pathway).or_default().insert(id.1);
        }
        let mut out = BTreeSet::new();
        for ((property, region), by_pathway) in denied {
            let views = crowd.views(property, region);
            let (all, all_views) =
                (by_pathway.values().map(BTreeSet::len).sum::<usize>(), views.values().sum::<usize>());
            for (pathway, ids) in by_pathway {
                let here = views.get(pathway).copied().unwrap_or(0);
                let evidence = Denied {
                    here: ids.len() as u64,
                    elsewhere: (all - ids.len()) as u64,
                    views_here: here as u64,
                    views_elsewhere: (all_views - here) as u64,
                };
                if evidence.is_path() {
                    out.insert((property.to_owned(), region.to_owned(), pathway.to_owned()));
                }
            }
        }
        out
    }
}

fn count(class: &'static str, requests: u64) {
    if requests > 0 {
        metrics::counter!("spillway_collector_requests_denied_total", "class" => class).increment(requests);
    }
}
