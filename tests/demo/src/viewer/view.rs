//! One view, from the playlist to the last beacon. A segment's path: room in the buffer → choice of pathway and
//! rendition → media playlist → initialisation segment → segment → buffer.

use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use spillway_service::CancellationToken;
use spillway_wire::beacon::Context;
use tokio::sync::{Notify, watch};
use url::Url;

use super::abr;
use super::behaviour::{Reaction, Trouble};
use super::fetch::{self, Cut, Fetched, Line};
use super::playback::{Playback, Track};
use super::playlist::{MediaPlaylist, Multivariant};
use super::population::{Surroundings, ViewPlan, agent_of};
use super::record::ViewRecord;
use super::state::{Moment, State};
use super::steering::{Poll, Steering};

/// Media that a player wants ahead of the playhead, ms.
const BUFFER_TARGET_MS: u64 = 12_000;
const TICK: Duration = Duration::from_millis(500);
/// Nobody waits longer for the first picture.
const START_PATIENCE_MS: u64 = 20_000;
const PLAYLIST_TRIES: u32 = 4;
const STEERING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the next try when every pathway has failed.
const NOWHERE_MS: u64 = 1_000;

/// One view. Shared between its own task and those who watch it.
pub struct View {
    pub(crate) plan: ViewPlan,
    pub(crate) around: Surroundings,
    pub(crate) client: reqwest::Client,
    line: Line,
    state: Mutex<State>,
    multivariant: OnceLock<Multivariant>,
    moved: watch::Sender<u64>,
    pub(crate) wake_sender: Notify,
    pub(crate) over: CancellationToken,
}

/// What a track loads next.
#[derive(Debug, Clone)]
struct Choice {
    generation: u64,
    pathway: String,
    playlist: Url,
    lowest: bool,
}

/// Where a track is.
#[derive(Debug, Default)]
struct Cursor {
    next: Option<u64>,
    playlist: Option<Loaded>,
    init: Option<Url>,
    failures: u32,
}

#[derive(Debug)]
struct Loaded {
    url: Url,
    list: MediaPlaylist,
    at_ms: u64,
    changed: bool,
}

/// Why a step did not bring a segment.
enum Setback {
    Trouble(Trouble),
    /// Steering or the other track moved the view.
    Moved,
    /// Given up for a smaller rendition.
    Abandoned,
}

impl View {
    /// A view that begins now.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(plan: ViewPlan, around: Surroundings) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .user_agent(agent_of(plan.device_class))
            .local_address(std::net::IpAddr::V4(plan.address))
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(2)
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        let joined_ms = around.moment().now_ms;
        let (player, version) = plan.behaviour.player();
        let ctx = Context {
            view_id: plan.view_id.clone(),
            content_id: around.content_id.clone(),
            stream_type: Some("live".to_owned()),
            format: Some("hls".to_owned()),
            player: Some(player.to_owned()),
            player_version: Some(version.to_owned()),
            device_class: Some(plan.device_class.to_owned()),
            page_type: Some("watch".to_owned()),
            sample_rate: Some(1.0),
            ..Context::default()
        };
        let record = ViewRecord::new(&plan.view_id, &plan.region, plan.behaviour, joined_ms);
        let playback = Playback::new(joined_ms, plan.start_after_ms, true);
        let steering = Steering::new(plan.behaviour, Vec::new(), None);
        Ok(Self {
            line: Line::new(plan.access_bps),
            state: Mutex::new(State::new(ctx, record, playback, steering)),
            multivariant: OnceLock::new(),
            moved: watch::Sender::new(0),
            wake_sender: Notify::new(),
            over: CancellationToken::new(),
            plan,
            around,
            client,
        })
    }

    /// The record as it stands.
    #[must_use]
    pub fn snapshot(&self) -> ViewRecord {
        let mut state = self.state();
        if state.record.ended_ms.is_none() {
            state.advance(self.moment().now_ms);
        }
        state.snapshot()
    }

    /// Pathway in use and whether the picture stands still, for a quick look.
    #[must_use]
    pub fn standing(&self) -> (String, bool) {
        let mut state = self.state();
        state.advance(self.around.moment().now_ms);
        let stalled = state.playback.phase() == super::playback::Phase::Stalled;
        (state.pathway.clone(), stalled)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while a view's state is held")
    }

    pub(crate) fn moment(&self) -> Moment {
        self.around.moment()
    }

    /// Plays until the plan's time is over or `leave` is cancelled, then sends what is left to report.
    pub async fn run(&self, leave: &CancellationToken) {
        let watching = async {
            let reason = tokio::select! {
                reason = self.watch() => reason,
                () = tokio::time::sleep(Duration::from_millis(self.plan.stay_ms)) => "abort",
                () = leave.cancelled() => "abort",
            };
            self.state().end(self.moment(), reason);
            self.over.cancel();
        };
        tokio::join!(watching, self.send_beacons());
    }

    async fn watch(&self) -> &'static str {
        self.state().tell(self.moment(), "view_start", true);
        self.wake_sender.notify_one();
        if !self.open().await {
            return "error";
        }
        tokio::select! {
            () = self.load(Track::Video) => {}
            () = self.load(Track::Audio) => {}
            () = self.steer() => {}
            () = self.ticks() => {}
        }
        "abort"
    }

    /// Reads the multivariant playlist. False if there is none.
    async fn open(&self) -> bool {
        let timeout = Duration::from_millis(self.plan.behaviour.first_byte_timeout_ms());
        let mut url = self.around.playlist_url.clone();
        url.query_pairs_mut().append_pair("sid", &self.plan.view_id);
        let mut last_status = None;
        for attempt in 0..PLAYLIST_TRIES {
            tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
            match fetch::get(&self.client, &self.line, &url, timeout, true, |_| true).await {
                Ok(got) if got.status == 200 => {
                    let text = String::from_utf8_lossy(&got.body);
                    match Multivariant::parse(&text, &url) {
                        Ok(list) => {
                            self.opened(list);
                            return true;
                        }
                        Err(error) => tracing::warn!(view = self.plan.view_id, %error, "playlist cannot be played"),
                    }
                }
                Ok(got) => last_status = Some(got.status),
                Err(_) => {}
            }
        }
        self.state().fatal(self.moment(), "playlist", last_status);
        false
    }

    fn opened(&self, list: Multivariant) {
        let pathways = list.pathways();
        let named = list.steering.as_ref().and_then(|tag| tag.pathway.clone());
        let first = named
            .filter(|id| self.plan.behaviour.is_steerable() && pathways.contains(id))
            .unwrap_or_else(|| pathways[0].clone());
        let uri = list.steering.as_ref().map(|tag| tag.server_uri.clone());
        let with_audio = list.variants.iter().any(|variant| variant.audio_url.is_some());
        let mut state = self.state();
        state.steering = Steering::new(self.plan.behaviour, pathways, uri);
        state.playback.set_tracks(with_audio);
        state.start_on(self.moment(), &first);
        drop(state);
        assert!(self.multivariant.set(list).is_ok(), "a view opens once");
    }

    async fn ticks(&self) {
        let mut pace = tokio::time::interval(TICK);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let at = self.moment();
            let mut state = self.state();
            state.tick(at);
            let urgent = state.reporter.is_urgent();
            let never_started = state.record.first_frame_ms.is_none()
                && at.now_ms.saturating_sub(state.record.joined_ms) > START_PATIENCE_MS;
            if never_started {
                state.fatal(at, "start", None);
            }
            drop(state);
            if urgent {
                self.wake_sender.notify_one();
            }
            if never_started {
                return;
            }
        }
    }

    async fn steer(&self) {
        loop {
            let asked = {
                let state = self.state();
                state.steering.poll_url(&state.pathway, state.throughput.estimate_bps())
            };
            let Some(asked) = asked else { return std::future::pending().await };
            let got = fetch::get(&self.client, &self.line, &asked, STEERING_TIMEOUT, true, |_| true).await;
            let wait_s = self.polled(&asked, got.as_ref().ok());
            tokio::time::sleep(Duration::from_secs(u64::from(wait_s))).await;
        }
    }

    fn polled(&self, asked: &Url, got: Option<&Fetched>) -> u32 {
        let at = self.moment();
        let mut state = self.state();
        let answer = got.map(|got| (got.status, got.body.as_slice()));
        match state.steering.take(asked, answer, got.and_then(|got| got.retry_after_s)) {
            Poll::Answer { ttl_s } => {
                state.record.answered(at.now_ms, ttl_s);
                let moved = state.follow(at);
                let generation = state.generation;
                drop(state);
                if moved {
                    self.announce(generation);
                }
                ttl_s
            }
            Poll::Failed { after_s } => {
                self.around.totals.polls_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                after_s
            }
            Poll::Stopped => 0,
        }
    }

    /// Tells the tracks and the sender that the view moved.
    fn announce(&self, generation: u64) {
        self.moved.send_replace(generation);
        self.wake_sender.notify_one();
    }

    async fn moved_on(&self, generation: u64) {
        let mut moved = self.moved.subscribe();
        if moved.wait_for(|now| *now != generation).await.is_err() {
            std::future::pending().await
        }
    }

    async fn load(&self, track: Track) {
        let mut cursor = Cursor::default();
        loop {
            self.wait_for_room(track).await;
            let Some(choice) = self.choose(track) else { return std::future::pending().await };
            match self.step(track, &choice, &mut cursor).await {
                Ok(()) | Err(Setback::Abandoned) => {}
                Err(Setback::Moved) => cursor.failures = 0,
                Err(Setback::Trouble(trouble)) => {
                    cursor.failures += 1;
                    self.wake_sender.notify_one();
                    self.react(trouble, &choice, &mut cursor).await;
                }
            }
        }
    }

    async fn wait_for_room(&self, track: Track) {
        loop {
            let ahead_ms = {
                let mut state = self.state();
                state.advance(self.moment().now_ms);
                state.playback.track_ahead_ms(track)
            };
            if ahead_ms < BUFFER_TARGET_MS {
                return;
            }
            tokio::time::sleep(Duration::from_millis(ahead_ms - BUFFER_TARGET_MS + 50)).await;
        }
    }

    /// None if the track does not exist.
    fn choose(&self, track: Track) -> Option<Choice> {
        let list = self.multivariant.get()?;
        let at = self.moment();
        let mut state = self.state();
        let ladder = list.ladder(&state.pathway);
        let index = match track {
            Track::Video => {
                let bandwidths: Vec<u64> = ladder.iter().map(|variant| variant.bandwidth_bps).collect();
                state.throughput.choose(&bandwidths)
            }
            Track::Audio => 0,
        };
        let variant = ladder.get(index)?;
        let playlist = match track {
            Track::Video => {
                state.set_rendition(at, &variant.stable_id, variant.bandwidth_bps);
                variant.url.clone()
            }
            Track::Audio => variant.audio_url.clone()?,
        };
        let (generation, pathway) = (state.generation, state.pathway.clone());
        Some(Choice { generation, pathway, playlist, lowest: index == 0 })
    }

    /// One playlist reload, or one segment.
    async fn step(&self, track: Track, choice: &Choice, cursor: &mut Cursor) -> Result<(), Setback> {
        let known = cursor.playlist.as_ref().filter(|loaded| loaded.url == choice.playlist);
        let wanted = match (known, cursor.next) {
            (Some(loaded), Some(next)) if next < loaded.list.end_sequence() => {
                Some((next.max(loaded.list.first_sequence), loaded))
            }
            _ => None,
        };
        let Some((sequence, loaded)) = wanted else {
            return self.reload(track, choice, cursor).await;
        };
        let url = loaded.list.segment(sequence).expect("it lies within the window").clone();
        let duration_ms = loaded.list.target_ms;
        if let Some(init) = loaded.list.init.clone().filter(|init| cursor.init.as_ref() != Some(init)) {
            self.request(track, choice, &init, Kind::Init).await?;
            cursor.init = Some(init);
        }
        let got = self.request(track, choice, &url, Kind::Segment).await?;
        let at = self.moment();
        let mut state = self.state();
        if track == Track::Video {
            state.throughput.add(got.bytes, got.elapsed_ms);
        }
        state.append(at, track, sequence, duration_ms);
        drop(state);
        cursor.failures = 0;
        cursor.next = Some(sequence + 1);
        Ok(())
    }

    async fn reload(&self, track: Track, choice: &Choice, cursor: &mut Cursor) -> Result<(), Setback> {
        if let Some(loaded) = cursor.playlist.as_ref().filter(|loaded| loaded.url == choice.playlist) {
            // A list that did not change is asked for again after half the target duration.
            let pause_ms = if loaded.changed { loaded.list.target_ms } else { loaded.list.target_ms / 2 };
            let passed_ms = self.moment().now_ms.saturating_sub(loaded.at_ms);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause_ms.saturating_sub(passed_ms))) => {}
                () = self.moved_on(choice.generation) => return Err(Setback::Moved),
            }
        }
        let at_ms = self.moment().now_ms;
        let got = self.request(track, choice, &choice.playlist, Kind::Playlist).await?;
        let text = String::from_utf8_lossy(&got.body);
        let list =
            MediaPlaylist::parse(&text, &choice.playlist).map_err(|_| Setback::Trouble(Trouble::Status(got.status)))?;
        let changed = cursor
            .playlist
            .as_ref()
            .is_none_or(|loaded| loaded.url != choice.playlist || loaded.list.end_sequence() < list.end_sequence());
        if cursor.next.is_none() {
            let start = *self.state().first_sequence.get_or_insert(list.first_sequence);
            cursor.next = Some(start.max(list.first_sequence));
        }
        cursor.playlist = Some(Loaded { url: choice.playlist.clone(), list, at_ms, changed });
        Ok(())
    }

    async fn request(&self, track: Track, choice: &Choice, url: &Url, kind: Kind) -> Result<Fetched, Setback> {
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let id = self.state().begin(self.moment().now_ms, track, &choice.pathway, host);
        let begun_ms = self.moment().now_ms;
        let may_abandon = kind == Kind::Segment && track == Track::Video && !choice.lowest;
        let on_progress = |progress: fetch::Progress| {
            let mut state = self.state();
            state.progress(id, progress);
            let Some(total) = progress.total_bytes.filter(|_| may_abandon) else { return true };
            let now_ms = self.moment().now_ms;
            state.advance(now_ms);
            let elapsed_ms = now_ms.saturating_sub(begun_ms);
            let hopeless = abr::should_abandon(progress.bytes, total, elapsed_ms, state.playback.ahead_ms());
            if hopeless {
                state.throughput.add(progress.bytes, elapsed_ms);
            }
            !hopeless
        };
        let timeout = Duration::from_millis(self.plan.behaviour.first_byte_timeout_ms());
        let keep = kind == Kind::Playlist;
        let get = fetch::get(&self.client, &self.line, url, timeout, keep, on_progress);
        let drops = self.plan.behaviour.drops_requests_when_moved();
        let got = tokio::select! {
            got = get => got,
            () = self.moved_on(choice.generation), if drops => {
                self.state().forget(id);
                return Err(Setback::Moved);
            }
        };
        let (at, mut state) = (self.moment(), self.state());
        match got {
            Ok(got) if (200..300).contains(&got.status) => {
                state.succeed(at, id, track, &got, kind == Kind::Segment);
                Ok(got)
            }
            Ok(got) => {
                state.fail(at, id, Trouble::Status(got.status));
                Err(Setback::Trouble(Trouble::Status(got.status)))
            }
            Err(Cut::Abandoned) => {
                state.forget(id);
                Err(Setback::Abandoned)
            }
            Err(cut) => {
                state.fail(at, id, cut.trouble());
                Err(Setback::Trouble(cut.trouble()))
            }
        }
    }

    async fn react(&self, trouble: Trouble, choice: &Choice, cursor: &mut Cursor) {
        let pause_ms = match self.plan.behaviour.react(trouble, cursor.failures) {
            Reaction::Retry(after_ms) => after_ms,
            Reaction::Leave(penalty) => {
                cursor.failures = 0;
                let mut state = self.state();
                let left = state.leave(self.moment(), &choice.pathway, penalty);
                let generation = state.generation;
                drop(state);
                if left {
                    self.announce(generation);
                    return;
                }
                NOWHERE_MS
            }
        };
        let moved = tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => false,
            () = self.moved_on(choice.generation) => true,
        };
        if moved {
            cursor.failures = 0;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Playlist,
    Init,
    Segment,
}
