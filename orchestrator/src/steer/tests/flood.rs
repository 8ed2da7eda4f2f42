//! A flood of requests without a token, from the node's handlers to the verdict.

use spillway_bus::{Bus as _, LocalBus};
use spillway_model::Verdict;
use spillway_orchestrator_core::{Engine, FindingNote, Parameters, RoundOutput};
use spillway_wire::frame::{FRAME_TOPIC, Frame};
use spillway_wire::probe::PROBE_TOPIC;

use super::fixtures::{NOW, deployment, region};
use super::node::{Node, server_uri};
use crate::classes::{ClassTable, ClassViews};
use crate::observe::{Ears, Loads};
use crate::{OrchestratorConfig, setup};

/// Sends `requests` to a real node, and decides one round on its frames.
async fn decided(node: &mut Node, requests: &[&str], untrusted: u64) -> RoundOutput {
    let (bus, deployment) = (LocalBus::new(), deployment());
    let classes = ClassViews::new(ClassTable::default(), &deployment);
    let mut ears = Ears::new(bus.subscribe(FRAME_TOPIC), bus.subscribe(PROBE_TOPIC), 1, classes);
    for path in requests {
        assert_eq!(node.get(path).await.status(), 200);
    }
    let mut seen = 0;
    while seen < untrusted {
        let message = node.frames.next().await.expect("a frame");
        let frame: Frame = serde_json::from_slice(&message).expect("json");
        seen += frame.cells.iter().map(|cell| cell.sessions_untrusted).sum::<u64>();
        bus.publish(FRAME_TOPIC, message).await;
    }
    assert_eq!(seen, untrusted);
    let config = OrchestratorConfig::default();
    let mut engine = Engine::new(setup(&deployment, Parameters::default(), &config).expect("valid"));
    engine.round(NOW, &ears.hear(NOW, &deployment, &Loads::default()))
}

fn abuse(output: &RoundOutput) -> Option<&FindingNote> {
    output.regions[&region()].findings.iter().find(|note| note.verdict == Verdict::Abuse)
}

#[tokio::test]
async fn a_flood_without_tokens_is_called_abuse_and_is_no_demand() {
    let mut node = Node::start().await;
    let flood = vec!["/v1/steer/hls?t=stolen"; 120];
    let output = decided(&mut node, &flood, 120).await;
    let note = abuse(&output).expect("a verdict");
    assert_eq!(note.text, "120 requests without a valid token in 10 s, 0 with");
    assert_eq!(output.regions[&region()].demand.0, 0, "nobody is charged for them");
    node.shutdown.cancel();
}

#[tokio::test]
async fn some_strangers_among_an_audience_are_no_abuse() {
    let mut node = Node::start().await;
    let playlist = "/v1/playlists/hls/vod/lake/master.m3u8";
    assert!(server_uri(&node.text(playlist).await).contains("t="));
    let mut requests = vec![playlist; 130];
    requests.extend(vec!["/v1/steer/dash"; 110]);
    let output = decided(&mut node, &requests, 110).await;
    assert!(abuse(&output).is_none(), "{:?}", output.regions[&region()].verdicts);
    node.shutdown.cancel();
}
