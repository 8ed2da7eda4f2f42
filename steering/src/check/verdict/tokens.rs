//! Whether the right URL opens, and no other does.

use super::Line;
use super::answers::cors;
use crate::check::playlist::Kind;
use crate::check::seen::{Exchange, Seen, Tokens};

/// What keeps others out.
const REFUSED: &str = "401, 403 or another refusal (4xx)";

/// All about tokens; none where the pathway has no signer.
pub(super) fn lines(seen: &Seen) -> Vec<Line> {
    let Some(tokens) = &seen.tokens else { return vec![] };
    let mut lines = vec![];
    for object in &seen.objects {
        lines.push(accepted(&object.whole, object.kind, tokens));
    }
    let playlist_is_closed =
        tokens.unsigned.iter().any(|(kind, exchange)| *kind != Kind::Segment && is_refused(exchange));
    for (kind, exchange) in &tokens.unsigned {
        let line = refused("token.unsigned", exchange, "anybody is let in");
        // Some networks guard playlists only.
        let is_open = exchange.with_status(200).is_some();
        lines.push(if *kind == Kind::Segment && is_open && playlist_is_closed {
            let valid = format!("{REFUSED}, unless only playlists are to be guarded");
            Line::warn("token.unsigned", &exchange.asked, "200: segments are open to anybody", valid)
        } else {
            line
        });
    }
    lines.push(refused("token.tampered", &tokens.tampered, "the signature is not looked at"));
    lines.push(match &tokens.other_title {
        Some(exchange) => refused("token.other_title", exchange, "a token opens titles that it is not for"),
        None => {
            let why = "one token is for all titles here, as folders = … says";
            Line::untried("token.other_title", "a token of another title", why, "")
        }
    });
    lines.push(refused("token.expired", &tokens.expired, "a token never ends"));
    lines.extend(tokens.inherited.as_ref().map(|exchange| inherited(exchange, tokens.inherits)));
    let forbidden = tokens.unsigned.iter().map(|(_, exchange)| exchange).find(|exchange| is_refused(exchange));
    if let Some((exchange, answer)) = forbidden.and_then(|exchange| Some((exchange, exchange.outcome.as_ref().ok()?))) {
        lines.push(cors("cors.403", exchange, answer, seen));
    }
    lines
}

fn is_refused(exchange: &Exchange) -> bool {
    exchange.outcome.as_ref().is_ok_and(|answer| (400..500).contains(&answer.status))
}

fn accepted(exchange: &Exchange, kind: Kind, tokens: &Tokens) -> Line {
    let asked = format!("{} signed by {} ({})", exchange.asked, tokens.signer, kind.name());
    match &exchange.outcome {
        Ok(answer) if answer.status == 200 => Line::ok("token.signed", &asked, "200"),
        _ => {
            let valid = format!(
                "200: key, kind, where and folders of [steer.signers.{}] as the network has them",
                tokens.signer
            );
            Line::fault("token.signed", &asked, exchange.words(), valid)
        }
    }
}

fn refused(check: &'static str, exchange: &Exchange, meaning: &str) -> Line {
    let asked = &exchange.asked;
    match &exchange.outcome {
        Ok(answer) if (400..500).contains(&answer.status) => Line::ok(check, asked, answer.words()),
        Ok(answer) if answer.status < 300 => {
            Line::fault(check, asked, format!("{}: {meaning}", answer.words()), REFUSED)
        }
        Ok(answer) if answer.status < 400 => {
            Line::warn(check, asked, answer.words(), format!("{REFUSED}: players follow redirects"))
        }
        _ => Line::fault(check, asked, exchange.words(), format!("{REFUSED}: this looks like an outage")),
    }
}

fn inherited(exchange: &Exchange, inherits: bool) -> Line {
    let (check, asked) = ("token.inherited", &exchange.asked);
    match (&exchange.outcome, inherits) {
        (Ok(answer), _) if answer.status == 200 => Line::ok(check, asked, "200"),
        (_, true) => Line::fault(check, asked, exchange.words(), "200: the token covers the title's folder"),
        (_, false) => {
            let valid = "200: players drop a playlist's query, so a path token, or a network that hands the token on";
            Line::fault(check, asked, exchange.words(), valid)
        }
    }
}
