//! Batch: duplicates out, the rest into the log as one; accounts and rollups only hear of what is durable.

use std::sync::Arc;
use std::time::Duration;

use spillway_wire::beacon::Accepted;

use crate::App;
use crate::admit::Admitted;
use crate::dedupe::{Ticket, all_stored, view_key};
use crate::refusal::Refusal;

/// A disk that takes longer is answered for with 503; the events may become durable all the same, and their
/// repetition is then a duplicate.
pub(crate) const DISK_MAX: Duration = Duration::from_secs(10);

/// Stores what is new of a beacon; the answer to its sender, once everything in it is durable.
pub(crate) async fn store(app: &Arc<App>, admitted: Admitted, bytes: usize) -> Result<Accepted, Refusal> {
    let Admitted { mut batch, prefix, rejected } = admitted;
    let accepted = batch.events.len();
    let key = view_key(&batch.property, &batch.ctx.view_id, &batch.source);
    let seqs: Vec<u64> = batch.events.iter().map(|stamped| stamped.event.seq).collect();
    let admission = app.dedupe.admit(key.clone(), &seqs, app.clock.monotonic().0);
    let mut fresh = admission.fresh.iter();
    batch.events.retain(|_| *fresh.next().unwrap_or(&true));
    app.account.discarded("duplicate", accepted - batch.events.len());
    // A sender that hangs up must not leave an event half accounted for.
    let work = tokio::spawn({
        let (app, ticket) = (Arc::clone(app), admission.ticket);
        async move {
            let stored = if batch.events.is_empty() {
                ticket.finish(true);
                Ok(())
            } else {
                persist(&app, batch, ticket, &key, prefix, bytes).await
            };
            stored.and(if all_stored(admission.originals).await { Ok(()) } else { Err(Refusal::OriginalFailed) })
        }
    });
    let ended = tokio::time::timeout(DISK_MAX, work).await.map_err(|_| Refusal::DiskTimeout)?;
    ended.map_err(|_| Refusal::DiskTimeout)??;
    Ok(Accepted { accepted, rejected, heartbeat_s: app.config.heartbeat_s, sample_rate: 1.0 })
}

async fn persist(
    app: &App,
    batch: spillway_lake::events::EventBatch,
    ticket: Ticket,
    key: &str,
    prefix: crate::limit::Prefix,
    bytes: usize,
) -> Result<(), Refusal> {
    let batch = Arc::new(batch);
    match app.log.append(Arc::clone(&batch), bytes).await {
        Ok(_) => {
            ticket.finish(true);
            app.account.accepted(batch.events.len());
            app.rollups.observe(key, &batch, prefix, app.clock.monotonic().0);
            Ok(())
        }
        Err(error) => {
            ticket.finish(false);
            app.account.discarded(error.reason(), batch.events.len());
            Err(Refusal::NotDurable(error))
        }
    }
}
