//! Committed volumes that will not be used: paid all the same, and no decision alone can mend it.

use std::collections::BTreeMap;

use spillway_model::PathwayId;
use spillway_orchestrator_core::{Bill, PriceSheet, Setup, projected_gb};
use spillway_wire::overview::Note;

/// A note for each commit whose projected use at the period's end stays below it; the projections also as metrics. A
/// pathway that nothing was used of yet has no bill: it is taken to be as far in the month as the others.
pub(crate) fn notes(setup: &Setup, bills: &BTreeMap<PathwayId, Bill>) -> Vec<Note> {
    let now = bills.values().map(|bill| bill.profile).reduce(f64::min);
    let mut notes = Vec::new();
    for (id, pathway) in &setup.pathways {
        let PriceSheet::Volume { committed_gb, .. } = pathway.price else { continue };
        let unused = || now.map(|profile| Bill { profile, ..Bill::default() });
        let Some(bill) = bills.get(id).copied().or_else(unused) else { continue };
        // Too early in the period for a projection.
        if committed_gb <= 0.0 || bill.profile < setup.parameters.profile_min {
            continue;
        }
        let projected = projected_gb(&bill, &setup.parameters);
        let short = (committed_gb - projected).max(0.0);
        metrics::gauge!("spillway_commit_projected_gb", "pathway" => id.to_string()).set(projected);
        metrics::gauge!("spillway_commit_shortfall_gb", "pathway" => id.to_string()).set(short);
        if short > 0.0 {
            notes.push(Note {
                kind: "commit".into(),
                text: text(id, committed_gb, projected, &bill),
                ..Note::default()
            });
        }
    }
    notes
}

fn text(id: &PathwayId, committed_gb: f64, projected: f64, bill: &Bill) -> String {
    format!(
        "{id}: {} of {} committed GB are used, {} expected by the period's end ({:.0} % of its volume is usually used by \
         now): {} GB will be paid and not used",
        gb(bill.used_gb),
        gb(committed_gb),
        gb(projected),
        bill.profile * 100.0,
        gb(committed_gb - projected),
    )
}

/// Three digits are enough of a projection, but for large volumes.
fn gb(volume: f64) -> String {
    if volume.abs() < 100.0 { format!("{volume:.1}") } else { format!("{volume:.0}") }
}

#[cfg(test)]
mod tests {
    use spillway_orchestrator_core::Parameters;

    use super::*;
    use crate::fixtures::{deployment, id};
    use crate::{OrchestratorConfig, setup};

    fn with_commit(committed_gb: f64) -> Setup {
        let config = OrchestratorConfig::default();
        let mut setup = setup(&deployment(), Parameters::default(), &config).expect("valid");
        setup.pathways.get_mut(&id("cdn-a")).expect("there").price = PriceSheet::Volume { committed_gb, tiers: vec![] };
        setup
    }

    fn bill(used_gb: f64, profile: f64) -> Bill {
        Bill { used_gb, profile, ..Bill::default() }
    }

    fn said(committed_gb: f64, bills: &[(&str, Bill)]) -> Vec<String> {
        let bills = bills.iter().map(|(name, bill)| (id(name), *bill)).collect();
        notes(&with_commit(committed_gb), &bills).into_iter().map(|note| note.text).collect()
    }

    #[test]
    fn a_commit_that_will_not_be_used_is_told_with_the_projection() {
        let expected = "cdn-a: 312 of 1000 committed GB are used, 709 expected by the period's end (44 % of its volume is \
                        usually used by now): 291 GB will be paid and not used";
        assert_eq!(said(1000.0, &[("cdn-a", bill(312.0, 0.44))]), [expected]);
        assert_eq!(said(1000.0, &[("cdn-a", bill(440.0, 0.44))]), Vec::<String>::new(), "just enough");
        assert_eq!(said(1000.0, &[("cdn-a", bill(0.0, 0.01))]), Vec::<String>::new(), "too early to say");
    }

    #[test]
    fn a_commit_that_nobody_has_touched_is_told_once_others_show_how_late_it_is() {
        assert_eq!(said(50.0, &[]), Vec::<String>::new(), "nothing is known of the month");
        let told = said(50.0, &[("cdn-b", bill(9.0, 0.5))]);
        assert!(told.len() == 1 && told[0].starts_with("cdn-a: 0.0 of 50.0 committed GB"), "{told:?}");
    }
}
