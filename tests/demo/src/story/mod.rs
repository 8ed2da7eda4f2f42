//! The story: what happens when, on which stage, and what it shows.
//!
//! A call's path: [`args`] → [`config`] and [`template`] (`deploy/demo.toml`) → [`stage`] (origin, CDNs, [`children`])
//! → [`play`] ([`timeline`], viewers, [`drill`], [`observe`], [`progress`]) → [`measure`] and [`summary`] →
//! [`invariants`] → [`report`].

pub mod api;
pub mod args;
pub mod children;
pub mod config;
pub mod drill;
pub mod invariants;
pub mod measure;
pub mod observe;
pub mod play;
pub mod progress;
pub mod report;
pub mod stage;
pub mod summary;
pub mod template;
pub mod timeline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use spillway_service::CancellationToken;

use crate::viewer::population::Population;
use crate::watch;
use args::{Args, Policy};
use play::{Outcome, Script};
use progress::Voice;
use report::{Report, rounded};
use stage::{Plan, Stage};
use summary::Measured;
use timeline::Timeline;

const DEFAULT_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/demo.toml");
/// A role may take this long to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// After Ctrl-C everything ends within 10 s.
const GRACE_HURRIED: Duration = Duration::from_secs(7);
/// A file that says: this folder is the demo's, and may be made anew.
const MARK: &str = ".spillway-demo";

/// Everything that stays the same over the runs of one call.
struct Call<'a> {
    args: &'a Args,
    template: String,
    dir: PathBuf,
    voice: Voice,
    stop: CancellationToken,
}

/// Runs what was asked for. True if every invariant held.
///
/// # Errors
/// If the stage can't be set.
pub async fn run(args: &Args, stop: CancellationToken) -> anyhow::Result<bool> {
    let voice = Voice { json: args.json };
    let config = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    let template = std::fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
    if !args.json {
        let shown = config.canonicalize().unwrap_or(config);
        voice.say(&format!("# {}\n\n{template}", shown.display()));
    }
    let dir = prepare(args.data_dir.as_deref())?;
    let call = Call { args, template, dir, voice, stop };
    let report = match args.policy {
        None => call.steered().await?,
        Some(Policy::Static) => call.unsteered().await?,
    };
    call.show(&report)?;
    let well = report.invariants_broken.is_empty();
    // Nobody asked for the folder by name, and nothing in it needs a second look.
    if well && args.data_dir.is_none() {
        std::fs::remove_dir_all(&call.dir).with_context(|| format!("clear {}", call.dir.display()))?;
    }
    Ok(well)
}

impl Call<'_> {
    async fn set(&self, name: &str, mode: &str) -> anyhow::Result<Stage> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make the folder {}", dir.display()))?;
        self.voice.say(&format!("setting the stage ({mode}), logs in {} …", dir.display()));
        let plan = Plan { spillway: &self.args.spillway, template: &self.template, dir: &dir, mode };
        let setting = Stage::set(&plan);
        tokio::select! {
            stage = setting => stage,
            () = self.stop.cancelled() => bail!("start: stopped"),
        }
    }

    fn script(&self, timeline: Timeline, steered: bool) -> Script<'_> {
        Script {
            spillway: &self.args.spillway,
            seed: self.args.seed,
            viewers: self.args.viewers,
            timeline,
            steered,
            voice: self.voice,
            stop: self.stop.clone(),
        }
    }

    /// The steered story, then the same without steering to compare, or `--keep`.
    async fn steered(&self) -> anyhow::Result<Report> {
        let mut stage = self.set("steered", "control").await?;
        let timeline = self.timeline(&stage)?;
        let watch = self.open_watch(&mut stage)?;
        let run = play::play(&mut stage, &self.script(timeline.clone(), true)).await?;
        let (parts, outage) = (stage.parts.clone(), stage.parts.demo.outage.clone());
        let cell = (outage.pathway.as_str(), outage.region.as_str());
        let mut measured = summary::measure_run(&run, &timeline, &parts.pathways, cell);
        let mut broken = Vec::new();
        if !self.args.keep || self.stop.is_cancelled() {
            watch.abort();
            self.strike(stage, &mut broken).await;
        } else {
            let partly = invariants::broken(&measured, &run, &parts, true, self.args.viewers);
            measured.report.invariants_broken = partly;
            self.show(&measured.report)?;
            self.keep(&stage).await;
            watch.abort();
            self.strike(stage, &mut broken).await;
            measured.report.invariants_broken.extend(broken);
            return Ok(measured.report);
        }
        if run.stopped {
            broken.push("the story was stopped before its end".to_owned());
        } else {
            broken.extend(self.compare(&mut measured, &timeline).await?);
        }
        let mut all = invariants::broken(&measured, &run, &parts, false, self.args.viewers);
        all.extend(broken);
        measured.report.invariants_broken = all;
        Ok(measured.report)
    }

    /// Plays the story without steering and enters its numbers. Returns what was broken.
    async fn compare(&self, measured: &mut Measured, timeline: &Timeline) -> anyhow::Result<Vec<String>> {
        self.voice.say("\n=== the same viewers, nobody steers ===");
        let mut stage = self.set("static", "observe").await?;
        let run = play::play(&mut stage, &self.script(timeline.clone(), false)).await?;
        let mut broken = invariants::broken_static(&run);
        self.strike(stage, &mut broken).await;
        enter_static(&mut measured.report, &run, timeline);
        Ok(broken)
    }

    async fn unsteered(&self) -> anyhow::Result<Report> {
        let mut stage = self.set("static", "observe").await?;
        let timeline = self.timeline(&stage)?;
        let watch = self.open_watch(&mut stage)?;
        let run = play::play(&mut stage, &self.script(timeline.clone(), false)).await?;
        let parts = stage.parts.clone();
        let cell = (parts.demo.outage.pathway.as_str(), parts.demo.outage.region.as_str());
        let mut report = {
            let mut measured = summary::measure_run(&run, &timeline, &parts.pathways, cell);
            measured.report.invariants_broken = invariants::broken(&measured, &run, &parts, true, self.args.viewers);
            measured.report
        };
        enter_static(&mut report, &run, &timeline);
        // There is no steered run in this call.
        report.outage.harmed_view_minutes = None;
        report.good_share.during = None;
        if self.args.keep && !self.stop.is_cancelled() {
            self.keep(&stage).await;
        }
        watch.abort();
        self.strike(stage, &mut report.invariants_broken).await;
        Ok(report)
    }

    fn timeline(&self, stage: &Stage) -> anyhow::Result<Timeline> {
        Timeline::new(&stage.parts.demo.story, self.args.seconds).map_err(anyhow::Error::msg)
    }

    /// Serves `/watch` and says where everything is.
    fn open_watch(&self, stage: &mut Stage) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        let socket = stage.watch.take().context("find the port of /watch")?;
        let address = socket.local_addr().context("read a port")?;
        let pages = watch::Pages {
            playlist: format!("{}/v1/playlists/hls/{}/master.m3u8", stage.api.steer, stage.parts.demo.content),
            steer: stage.api.steer.clone(),
            collector: stage.api.collector.clone(),
            key: stage.parts.write_key.clone(),
            content: stage.parts.demo.content.clone(),
            regions: stage.parts.regions.clone(),
            pathways: stage.parts.pathways.iter().map(|p| (p.id.clone(), p.base_url.clone())).collect(),
            dashboard: stage.api.dashboard.clone(),
            hls_js: self.args.hls_js.clone(),
            sdk: self.args.sdk.as_ref().map(|dir| dir.join("watch-sdk.js")),
        };
        let missing = pages.missing();
        self.voice.say(&format!(
            "\ndashboard   {}/\nwatch       http://{address}/watch?region={}\n",
            stage.api.dashboard, stage.parts.demo.outage.region
        ));
        for text in missing {
            self.voice.say(&format!("            /watch can't play: {text}"));
        }
        watch::serve(socket, pages)
    }

    /// Fresh viewers without a story, until Ctrl-C.
    async fn keep(&self, stage: &Stage) {
        self.voice.say("\nthe story is over; serving on with fresh viewers until Ctrl-C");
        let demo = &stage.parts.demo;
        let viewers = usize::try_from(self.args.viewers).expect("a few thousand");
        let slots = crate::viewer::population::slots(
            self.args.seed,
            viewers,
            &demo.viewers,
            &demo.manners,
            (0.0, 20.0),
            (20.0, 40.0),
        );
        let population = Population::start(slots, self.args.seed, &demo.manners, "keep", &stage.around);
        self.stop.cancelled().await;
        // Ten seconds from Ctrl-C to the end: viewers get two of them.
        let _ = tokio::time::timeout(Duration::from_secs(2), population.stop()).await;
    }

    /// Ends the roles.
    async fn strike(&self, stage: Stage, broken: &mut Vec<String>) {
        let grace = if self.stop.is_cancelled() { GRACE_HURRIED } else { GRACE };
        for name in stage.strike(grace).await {
            broken.push(format!("{name} did not end within {} s of SIGTERM", grace.as_secs()));
        }
    }

    #[expect(clippy::print_stdout, reason = "the JSON line belongs on standard output")]
    fn show(&self, report: &Report) -> anyhow::Result<()> {
        if self.args.json {
            println!("{}", serde_json::to_string(report)?);
            return Ok(());
        }
        self.voice.say(&format!("\n{}", serde_json::to_string_pretty(report)?));
        for text in &report.invariants_broken {
            self.voice.say(&format!("BROKEN: {text}"));
        }
        if report.invariants_broken.is_empty() {
            self.voice.say("every invariant held");
        }
        Ok(())
    }
}

fn enter_static(report: &mut Report, run: &Outcome, timeline: &Timeline) {
    let quality = summary::during(run, timeline);
    report.outage.harmed_view_minutes_static = quality.map(|quality| rounded(quality.harmed_minutes()));
    report.good_share.during_static = quality.and_then(|quality| quality.good_share()).map(rounded);
}

/// The folder of this call: empty, and marked as the demo's.
fn prepare(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match wanted {
        Some(dir) => dir.to_owned(),
        None => std::env::temp_dir().join(format!("spillway-demo-{}", std::process::id())),
    };
    let mark = dir.join(MARK);
    if dir.exists() {
        let is_empty = std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))?.next().is_none();
        if !is_empty && !mark.exists() {
            bail!("use the folder {} (valid: an empty one, a new one, or one of an earlier demo)", dir.display());
        }
        for run in ["steered", "static"] {
            let old = dir.join(run);
            if old.exists() {
                std::fs::remove_dir_all(&old).with_context(|| format!("clear {}", old.display()))?;
            }
        }
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    std::fs::write(&mark, "made anew by every demo\n").with_context(|| format!("write {}", mark.display()))?;
    // Roles run elsewhere: they need to find it from there.
    dir.canonicalize().with_context(|| format!("find {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_demo_are_cleared() {
        let dir = tempfile::tempdir().expect("dir");
        let ours = dir.path().join("ours");
        let made = prepare(Some(&ours)).expect("new");
        std::fs::create_dir_all(made.join("steered/data")).expect("write");
        std::fs::write(made.join("kept"), "x").expect("write");
        prepare(Some(&ours)).expect("an earlier demo's");
        assert!(!made.join("steered").exists() && made.join("kept").exists());
        let other = dir.path().join("other");
        std::fs::create_dir(&other).expect("dir");
        std::fs::write(other.join("precious"), "x").expect("write");
        assert!(prepare(Some(&other)).expect_err("refused").to_string().contains("valid: an empty one"));
    }
}
