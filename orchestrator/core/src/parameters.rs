//! Every number that decides, with its unit, its default and the reason for it. `spillway check-config --explain`
//! prints this list.

use spillway_model::limits::{TTL_MAX_S, TTL_MIN_S};

macro_rules! parameters {
    ($($name:ident: $kind:ty = $default:expr, $unit:literal, $reason:literal;)+) => {
        /// Every number that decides. Defaults are the production values.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Parameters {
            $(#[doc = concat!($reason, ". Unit: ", $unit, "; default: ", stringify!($default), ".")] pub $name: $kind,)+
        }

        impl Default for Parameters {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Parameters {
            /// Name, value, unit and reason of each, in the order in which decisions use them.
            #[must_use]
            pub fn describe(&self) -> Vec<(&'static str, String, &'static str, &'static str)> {
                vec![$((stringify!($name), self.$name.to_string(), $unit, $reason),)+]
            }

            /// Sets the number of that name.
            ///
            /// # Errors
            /// What would be valid; nothing is changed then.
            pub fn set(&mut self, name: &str, value: f64) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = checked(name, $unit, value)?,)+
                    _ => return Err("a name that `spillway check-config --explain` prints".to_owned()),
                }
                Ok(())
            }
        }
    };
}

/// Numbers whose bounds are not their unit's.
const BOUNDS: [(&str, f64, f64); 8] = [
    ("commit_low", 0.0, 10.0),
    ("commit_high", 0.0, 10.0),
    ("ttl_live_s", TTL_MIN_S as f64, TTL_MAX_S as f64),
    ("ttl_vod_s", TTL_MIN_S as f64, TTL_MAX_S as f64),
    ("ttl_suspect_s", TTL_MIN_S as f64, TTL_MAX_S as f64),
    ("hold_s", 1.0, 86_400.0),
    ("recovery_step_s", 1.0, 86_400.0),
    ("drain_s", 1.0, 86_400.0),
];

/// `value` as a number of that name and unit, or what would be valid.
fn checked<T: Number>(name: &str, unit: &str, value: f64) -> Result<T, String> {
    let bounds = BOUNDS.iter().find(|(bounded, ..)| *bounded == name);
    let (holds, valid) = match (bounds, unit) {
        (Some((_, from, to)), _) => ((*from..=*to).contains(&value), format!("{from} to {to}")),
        (None, "share" | "probability") => ((0.0..=1.0).contains(&value), "0 to 1".to_owned()),
        (None, "ppm") => ((0.0..=1e6).contains(&value), "0 to 1000000".to_owned()),
        (None, "slots") => ((0.0..=1e6).contains(&value), "0 to 1000000".to_owned()),
        (None, "s") => (value > 0.0 && value <= 604_800.0, "above 0, at most 604800".to_owned()),
        (None, _) => (value > 0.0 && value <= 1e15, "above 0".to_owned()),
    };
    if !holds {
        return Err(valid);
    }
    T::of(value).ok_or_else(|| format!("{valid}, a whole number"))
}

/// A type of a parameter.
trait Number: Sized {
    /// `None` if it can't hold the value.
    fn of(value: f64) -> Option<Self>;
}

impl Number for f64 {
    fn of(value: f64) -> Option<Self> {
        Some(value)
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),+) => {
        $(impl Number for $kind {
            fn of(value: f64) -> Option<Self> {
                (value.fract() == 0.0 && value >= 0.0 && value <= f64::from(u32::MAX)).then_some(value as Self)
            }
        })+
    };
}

whole_numbers!(u32, u64, usize);

parameters! {
    // Observe
    gauge_stale_s: f64 = 5.0, "s", "A source that sent no cell for this long has no views any more";
    fast_window_s: u64 = 3, "s", "Seconds of failed and late requests that the fast lane adds up: more than one, since a live player asks only once per segment";
    telemetry_min: f64 = 0.7, "share", "Frames or heartbeats below this share: measurements are missing, not the service";
    telemetry_tau_s: f64 = 6.0, "s", "Memory of the share of frames that came: one lost frame is no loss of telemetry";
    warm_up_s: f64 = 12.0, "s", "After a start, views are heard only with their next heartbeat: until then nothing is moved but out of dead pathways";

    // Estimate
    health_tau_s: f64 = 120.0, "s", "Memory of health: long enough for 8 % against 1 % in small cells, short enough to forget";
    preference_tau_s: f64 = 1800.0, "s", "Memory of the usual bad-window rate where the lake knows none";
    prior_windows: f64 = 150.0, "windows", "Pseudo-windows that pull a cell towards its parent: 100 to 300 cut selection regret by 30-60 % in thin cells";
    baseline_default: f64 = 0.01, "share", "Bad-window rate taken as usual before any is learned";
    baseline_min: f64 = 0.002, "share", "Floor of a learned rate: below it a single bad window would look like a fault";
    baseline_max: f64 = 0.05, "share", "Ceiling of a learned rate: an outage in the lake must not make the next one look usual";
    window_correlation: f64 = 0.01, "rho", "Windows of one cell are not independent: design effect 1 + (n - 1) rho";

    // Detect: fast lane
    fast_views_min: f64 = 10.0, "views", "Distinct failing views from which a quarter of a pathway is enough";
    fast_share: f64 = 0.25, "share", "Failing share of a pathway's views for the above";
    fast_small_views_min: f64 = 5.0, "views", "Distinct failing views in a small cell";
    fast_small_share: f64 = 0.5, "share", "Failing share in a small cell";
    fast_times_reference: f64 = 3.0, "times", "How much worse than the other pathways of the region: origin and ISP faults raise the reference too";
    fled_window_s: u64 = 10, "s", "Seconds of polls of which the fast lane asks how many sessions left a pathway by themselves: players poll seldom, and leave within 4 s";
    reference_prior_views: f64 = 3.0, "views", "Pseudo-views that pull the reference towards its parent";
    reference_single_views: u64 = 20, "views", "A single other pathway with this many good views shows that the fault is not common to all";
    asn_concentration: f64 = 0.8, "share", "Failing views in one network above this, without another pathway to compare with there: ACCESS, not PATH";
    silence_window_s: u64 = 10, "s", "Heartbeats due but missing are added up over one heartbeat period";
    silence_due_min: u64 = 10, "heartbeats", "Heartbeats due from which silence counts";
    silence_share: f64 = 0.5, "share", "Missing heartbeats that are silence";

    network_rest_views_min: f64 = 5.0, "views", "Views of other networks on a pathway that must be well for one network's fault to be its own (PATHxASN)";
    network_rest_windows_min: f64 = 30.0, "windows", "Windows of other networks that must be well for the same in the slow lane";
    network_rest_share: f64 = 0.25, "share", "And their part of the pathway's windows: one network with nearly all viewers is the pathway";
    common_windows_min: f64 = 50.0, "windows", "Effective windows from which a pathway or network is judged for a common fault (ORIGIN, ACCESS)";
    abuse_requests_min: u64 = 100, "requests", "Requests without a valid token in 10 s from which they are a flood (ABUSE)";
    abuse_share: f64 = 0.5, "share", "And their part of all first requests";
    sent_views_min: f64 = 50.0, "views", "With fewer views, or fewer polling sessions in the region, nobody asks whether steering sent them";
    sent_coverage_min: f64 = 0.5, "share", "Nor if fewer of the region's views than this poll";
    sent_margin: f64 = 0.05, "share", "More views than were sent by this are from elsewhere; those of them that are ill are not believed";
    unsteered_tau_s: f64 = 600.0, "s", "Memory of how many views are on a pathway without being sent there";
    cohort_rules_max: usize = 64, "networks", "Networks of a region that get weights or verdicts of their own, those with most viewers first: a manifest stays small";

    // Detect: slow lane
    cusum_degraded: f64 = 12.0, "nats", "CUSUM threshold of DEGRADED: 8 % brownout in 60/100 s (median/p95) at 50 windows per 10 s, 0.03 false alarms per cell-day";
    cusum_down: f64 = 16.0, "nats", "CUSUM threshold of DOWN, with down_rate";
    cusum_times: f64 = 4.0, "times", "An ill pathway has so many times its neighbours' bad-window rate: what the CUSUM tests for";
    cusum_plus: f64 = 0.03, "share", "Or this much above it";
    reference_prior_windows: f64 = 30.0, "windows", "Pseudo-windows that pull the neighbours' rate of 20 s towards the usual one";
    neighbour_prior_windows: f64 = 10.0, "windows", "Pseudo-windows that pull a network's rate on its other pathways towards the region's";
    others_ill_chance: f64 = 0.1, "probability", "The neighbours are well if their windows would look so with less than this chance were they half as ill";
    access_sigma: f64 = 3.0, "sigma", "A network is worse than its region (ACCESS) beyond so many standard errors";
    usual_prior_windows: f64 = 500.0, "windows", "Pseudo-windows that pull a region's own usual rate towards baseline_default";
    cusum_usual: f64 = 3.0, "nats", "CUSUM below which windows teach what is usual";
    cusum_clip_per_s: f64 = 0.6, "nats/s", "Most that one second may add (half the threshold per 10 s): one burst alone is no fault";
    degraded_rate: f64 = 0.03, "share", "Bad-window rate that DEGRADED needs at least";
    degraded_times_baseline: f64 = 2.5, "times", "And so many times the usual one";
    down_rate: f64 = 0.20, "share", "Bad-window rate that DOWN needs at least";
    tick_bad_share: f64 = 0.25, "share", "Bad share that makes two ticks of 10 s DOWN";
    ticks_bad_share: f64 = 0.3, "share", "Bad share of two ticks together that does the same, however they are spread";
    tick_windows_min: f64 = 8.0, "windows", "Windows that such a tick needs";
    tick_windows_sure: f64 = 50.0, "windows", "With so many one tick is enough";
    tick_cusum: f64 = 4.0, "nats", "CUSUM that such ticks need beside: at its largest step that is 7 s, so that half of 200 windows per 10 s bad is DOWN within 10 s";
    capacity_utilisation: f64 = 0.9, "share", "Utilisation in the last 60 s above which bad windows mean too full, not ill";
    strain_memory_s: f64 = 60.0, "s", "A load is proven when nothing looked ill for so long after it, and counts as a strain for as long";
    strain_times: f64 = 1.1, "times", "More than the proven load by this is too full before it is ill";
    strain_utilisation: f64 = 0.5, "share", "But not below this part of the declared capacity";
    proven_half_life_s: f64 = 86400.0, "s", "Half-life of the proven load: capacity that nobody used for days may be gone";
    elsewhere_share: f64 = 0.3, "share", "A pathway that is well in other regions, with at least this part of the views here, isn't too full";
    capacity_saturated: f64 = 0.95, "share", "Less delivered than this part of what is wanted: too full even while its caches are cold";
    capacity_fail_max: f64 = 0.5, "share", "Failing share above which even a full pathway is ill";

    own_fault_s: f64 = 90.0, "s", "An origin's fault this soon after a move of ours is taken for our own (ORIGIN_SELF)";
    own_fault_move: f64 = 0.05, "share", "Smallest move that counts for that";

    // Probes
    probe_fresh_s: f64 = 30.0, "s", "Older probes say nothing";
    probe_rounds: u32 = 2, "rounds", "Probe pairs in a row that count";
    probe_views_max: u64 = 5, "views", "With fewer views on it, probes alone may call a pathway DOWN";
    origin_pathways_min: usize = 2, "pathways", "Misses failing through so many pathways are the origin's fault";

    tried_window_s: u64 = 20, "s", "Requests of views that try a DOWN pathway are added up over this";
    tried_requests_min: u64 = 20, "requests", "And so many say something";
    tried_failing_max: f64 = 0.05, "share", "Failing share below which those views are well";
    probe_share: f64 = 0.005, "share", "Running views that try a DOWN pathway at a time";
    probe_sessions: f64 = 20.0, "views", "At least so many, or a small region would never know";
    probe_share_max: f64 = 0.05, "share", "But never more than this";
    probe_turn_s: u64 = 20, "s", "Length of a turn: less than a usual buffer holds";
    probe_turns: u64 = 3, "turns", "One turn in so many is used; each takes other views";

    // States
    telemetry_back_s: f64 = 120.0, "s", "A pathway is UNKNOWN until measurements have been back for this long";
    telemetry_static_after_s: f64 = 900.0, "s", "After so long without measurements weights begin to go back to the static ones";
    telemetry_static_over_s: f64 = 1800.0, "s", "And take so long for it";
    origin_wait_s: f64 = 30.0, "s", "Older reports of an origin say nothing";
    recovery_windows: f64 = 100.0, "windows", "A recovery step needs so many windows, or half of what its share of viewers can give";
    degraded_factor: f64 = 0.10, "times", "Weight of a DEGRADED pathway: 0.25 left 0.3 points of bad windows on the table in a brownout";
    hold_s: f64 = 120.0, "s", "A pathway stays DOWN or DEGRADED at least this long";
    hold_max_s: f64 = 1800.0, "s", "Longest hold after doublings";
    hold_without_probes_s: f64 = 1800.0, "s", "A DOWN pathway that nobody probes is tried after this";
    flap_decay_s: f64 = 1800.0, "s", "Healthy time that takes one flap back";
    quiet_s: f64 = 60.0, "s", "Time without any sign of the fault before a DEGRADED pathway recovers";
    recovery_step_s: f64 = 120.0, "s", "Length of each recovery step: caches are cold";
    recovery_first: f64 = 0.10, "times", "Weight in the first step";
    recovery_second: f64 = 0.22, "times", "Weight in the second step";
    recovery_third: f64 = 0.48, "times", "Weight in the third step; then all";
    drain_s: f64 = 600.0, "s", "Time over which running views leave a draining pathway";
    suspect_after_s: f64 = 60.0, "s", "A region polls fast for this long after its last pathway became HEALTHY";

    // Demand
    bits_per_view_default: f64 = 2_500_000.0, "bit/s", "Bitrate of a view before any is measured";
    bits_per_view_min: f64 = 500_000.0, "bit/s", "Lower bound of what is assumed before enough is measured";
    bits_per_view_max: f64 = 8_000_000.0, "bit/s", "Upper bound of what is assumed before enough is measured";
    bits_per_view_known: f64 = 60.0, "view-seconds", "Measured time from which the measured bitrate is taken as it is";
    bits_per_view_tau_s: f64 = 60.0, "s", "Memory of bitrate going down; an outage must not look like less demand";
    bits_per_view_rise_s: f64 = 6.0, "s", "Memory of bitrate going up";
    growth_tau_s: f64 = 4.0, "s", "Memory of the growth of concurrency: 80 % more views in 15 s must be seen in the first five";
    growth_memory_s: f64 = 60.0, "s", "Views that were there so shortly ago don't grow when they are heard again: their reports were silent";
    growth_horizon_s: f64 = 30.0, "s", "Forecast beyond one TTL: who comes until the next move has been decided, published and followed must find room";
    growth_max: f64 = 1.0, "times", "Largest growth forecast, relative to the views now";
    growth_min_views: f64 = 5.0, "views", "Growth over the horizon below this is noise";
    demand_fall_tau_s: f64 = 30.0, "s", "Demand falls this slowly: a restarted collector must not look like an empty house";
    charge_s: u64 = 6, "s", "Sessions assigned and not yet seen are charged for this long";

    // Fill
    own_target: f64 = 0.80, "share", "Own edges are planned up to this: 2.5 min of 5 %/min growth and a margin of 5 %";
    own_urgent: f64 = 0.86, "share", "An own edge that would be above this is relieved at once, without move limits";
    own_ceiling: f64 = 0.90, "share", "And when nobody else has room up to this: beyond it bad windows begin";
    cdn_target: f64 = 0.85, "share", "Commercial CDNs are planned up to this part of the agreed capacity";
    ceiling: f64 = 0.95, "share", "Nothing is planned above this part of its capacity, but in a panic";
    warm_share: f64 = 0.05, "share", "Each commercial CDN keeps this much in a region with own edges: warm caches, contract, evidence";
    warm_share_small: f64 = 0.02, "share", "And this much in a region without: two CDNs carry it, of the others evidence is needed";
    concentration: f64 = 0.70, "share", "Largest part of the commercial traffic on one CDN in a region with own edges: cheapest first would put all eggs in one basket";
    concentration_small: f64 = 0.70, "share", "And in a region without: 85/15 on two CDNs would be 4 % cheaper, but leaves too little on the others to judge the large one by, and their caches cold when it dies";
    qoe_floor_rate: f64 = 0.015, "share", "A bad-window rate below this is good enough to go by cost";
    qoe_floor_times: f64 = 1.3, "times", "Or this many times the best pathway's";
    qoe_floor_plus: f64 = 0.005, "share", "Or this much above the best pathway's";
    floor_hold_s: f64 = 300.0, "s", "What fell below that stays below for so long, twice as long each time: chosen again at once it would fall again";
    warming_s: f64 = 120.0, "s", "Time in which a pathway's caches get used to more views";
    cooling_s: f64 = 3600.0, "s", "And to less";
    cold_times: f64 = 1.25, "times", "With so many times the views that they are used to they are cold, and its quality isn't judged by the floor";
    cold_rate: f64 = 0.06, "share", "Bad-window rate up to which cold caches explain it";
    explore_windows: f64 = 200.0, "windows", "Windows in half an hour below which too little is known of a pathway";
    explore_min: f64 = 0.005, "share", "Least share that such a pathway gets";
    explore_max: f64 = 0.05, "share", "And the most; none in an event";
    refill_s: f64 = 20.0, "s", "Views that were moved fill their buffers at twice the bitrate for this long";
    refill_emergency: f64 = 0.10, "share", "Part of the demand that still refills while a region counts as in an emergency";
    inflow_per_min: f64 = 0.25, "share", "Views that flee go first where they are at most this much of the capacity per minute: cold caches; if nobody else can take them, beyond it";
    profile_min: f64 = 0.02, "share", "Earliest part of a billing period by which a projection is made";
    commit_low: f64 = 0.97, "share", "Projected use of a committed volume below which the next GB is paid for already";
    commit_high: f64 = 1.03, "share", "And above which it costs the list price; in between the price rises evenly, so that it doesn't flap";
    free_slots_min: u32 = 1, "slots", "Free 5-minute slots left from which traffic above a 95/5 level costs no more while demand is highest";
    level_memory_s: f64 = 604800.0, "s", "Memory of how often so much is wanted: a week";
    level_known_s: f64 = 86400.0, "s", "And from so much of it on a peak can be told from a rise: a day";
    level_use: f64 = 0.5, "share", "Part of the time in which a higher 95/5 level is taken to be used until then";
    level_peak_use: f64 = 0.05, "share", "And what exceeds a level that is worth to be paid: a peak of an hour a day";
    shortage_ahead_s: f64 = 120.0, "s", "A shortage that growth will bring in this time lowers the bitrate already: only views that start take it over";
    shortage_reach_s: f64 = 300.0, "s", "Views that start in this time give up what is missing, those that run keep what they have";
    shortage_hold_s: f64 = 30.0, "s", "A bitrate that was lowered rises only after this";
    shortage_step: f64 = 0.05, "share", "And falls further only by more than this: the shortage is measured with noise";
    bitrate_floor_bps: f64 = 800_000.0, "bit/s", "A class gives up bitrate down to this before the next one must";
    load_factor_tau_s: f64 = 6.0, "s", "Memory of a node's real load ÷ planned load: hashing few sessions is uneven";
    load_factor_min: f64 = 0.9, "times", "Smallest such factor that is believed: an underestimate would overfill the node";
    load_factor_max: f64 = 1.6, "times", "Largest such factor that is believed";
    capacity_margin: f64 = 0.95, "times", "Learned capacity is this much of what a pathway delivered when it was too full";
    capacity_drop: f64 = 0.93, "times", "And falls by this if it is too full below that already";
    capacity_again_s: f64 = 30.0, "s", "But not again before views can have moved and their windows been heard";
    capacity_cuts: u32 = 3, "cuts", "After so many in a row the pathway is ill rather than too full";
    capacity_relief: f64 = 0.8, "share", "If its load has fallen below this part meanwhile";
    capacity_rise: f64 = 0.004, "share per 10 s", "Learned capacity that comes back: 2.4 % of the declared one a minute, less at first, up to four times as much later";
    capacity_wait_s: f64 = 1800.0, "s", "Time after which it comes back at that rate; four times as long each time that the same level was too much";
    capacity_near: f64 = 0.85, "share", "Illness above this part of a level that was too much before is the same again";
    capacity_same: f64 = 0.1, "share", "Levels closer than this are the same";
    capacity_floor: f64 = 0.3, "share", "Learned capacity never falls below this part of the declared one";

    hit_after_move: f64 = 0.5, "share", "Hits among the bits of views just moved, where the lake knows nothing: caches are cold";

    // Spare
    spare_min_ppm: u32 = 1_000, "ppm", "Spare weight of a usable pathway without spare capacity: it still ranks before a dead one";

    // Plan
    move_max: f64 = 0.10, "share", "Largest optimisation move of a region per TTL";
    gain_cost: f64 = 0.02, "share", "An optimisation is worth a move if it saves this much of the cost";
    gain_bad: f64 = 0.003, "share", "Or this much of bad windows";
    canary_s: f64 = 600.0, "s", "Time without harm after which a policy on trial holds everywhere";
    canary_windows: f64 = 200.0, "windows", "Windows in the memory of health, there and elsewhere, without which it isn't accepted";
    canary_harm: f64 = 0.01, "share", "More bad windows than in the other regions, before and after compared, that take it back";
    canary_z: f64 = 3.0, "sigma", "And so many standard errors";
    move_min: f64 = 0.02, "share", "Smaller differences are not worth a move";
    move_back_min: f64 = 0.05, "share", "A step that takes the last one back must be worth more: demand is measured with noise, and nobody is moved to and fro for it";
    dwell_ttls: f64 = 3.0, "TTLs", "Time between optimisation moves of a region";
    drain_steps: f64 = 20.0, "steps", "A drain moves in so many steps";
    mass_change_share: f64 = 0.3, "share", "More pathways than this changing state in 60 s stop optimisation";
    mass_change_min: usize = 3, "pathways", "And at least so many";
    hot_title_share: f64 = 0.05, "share", "A title with this much of a region's views is spread over all nodes of a group";
    ttl_live_s: u32 = 10, "s", "Poll interval of live views";
    ttl_vod_s: u32 = 30, "s", "Poll interval of views on demand";
    ttl_suspect_s: u32 = 5, "s", "Poll interval in a region where something is not HEALTHY";
    ttl_jitter: f64 = 0.10, "share", "Spread of the poll interval to either side";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_takes_its_own_default_and_refuses_nonsense() {
        let default = Parameters::default();
        let mut parameters = default.clone();
        for (name, value, unit, _) in default.describe() {
            let value: f64 = value.parse().expect("a number");
            parameters.set(name, value).unwrap_or_else(|valid| panic!("{name} = {value} {unit}: {valid}"));
            for bad in [f64::NAN, f64::INFINITY, -1.0] {
                assert!(parameters.set(name, bad).is_err(), "{name} = {bad}");
            }
        }
        assert_eq!(parameters, default);
    }

    #[test]
    fn what_would_be_valid_is_said() {
        let mut parameters = Parameters::default();
        for (name, value, valid) in [
            ("ttl_live_s", 1.0, "2 to 300"),
            ("ttl_live_s", 2.5, "2 to 300, a whole number"),
            ("move_max", 1.5, "0 to 1"),
            ("health_tau_s", 0.0, "above 0, at most 604800"),
            ("hold", 5.0, "a name that `spillway check-config --explain` prints"),
        ] {
            assert_eq!(parameters.set(name, value), Err(valid.to_owned()), "{name} = {value}");
        }
        assert_eq!(parameters, Parameters::default());
        parameters.set("move_max", 0.25).expect("valid");
        assert_eq!(parameters, Parameters { move_max: 0.25, ..Parameters::default() });
    }
}
