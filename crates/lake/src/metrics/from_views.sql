SELECT {keys},
  count(*) AS views,
  sum(weight) AS views_weight,
  100.0 * sum(CASE WHEN good_view THEN 1 ELSE 0 END) / nullif(count(good_view), 0) AS good_view_pct,
  100.0 * sum(CASE WHEN ended_cleanly THEN 0 ELSE 1 END) / count(*) AS dropped_pct,
  100.0 * sum(stall_ms) / nullif(sum(CASE WHEN stall_ms IS NOT NULL THEN watched_ms END), 0) AS rebuffer_pct,
  60000.0 * sum(stall_count) / nullif(sum(CASE WHEN stall_count IS NOT NULL THEN watched_ms END), 0)
    AS rebuffers_per_min,
  avg(stall_count) AS stalls_per_view,
  avg(startup_ms) AS startup_ms_mean,
  dd_quantile(dd_sketch(CAST(startup_ms AS DOUBLE)), 0.5) AS startup_ms_median,
  dd_quantile(dd_sketch(CAST(startup_ms AS DOUBLE)), 0.95) AS startup_ms_p95,
  100.0 * sum(CASE WHEN exit_before_start THEN 1 ELSE 0 END) / count(*) AS exit_before_start_pct,
  100.0 * sum(CASE WHEN start_failure AND error_class IS DISTINCT FROM 'entitlement' THEN 1 ELSE 0 END) / count(*)
    AS start_failure_pct,
  100.0 * sum(CASE WHEN fatal_error AND error_class IS DISTINCT FROM 'entitlement' THEN 1 ELSE 0 END) / count(*)
    AS playback_failure_pct,
  100.0 * sum(CASE WHEN fatal_error AND error_class = 'entitlement' THEN 1 ELSE 0 END) / count(*)
    AS business_exception_pct,
  1.0 * sum(bits_played) / nullif(sum(CASE WHEN bits_played IS NOT NULL THEN playing_ms END), 0) AS avg_bitrate_kbps,
  avg(switch_up + switch_down) AS rendition_switches_per_view,
  avg(pathway_switches) AS pathway_switches_per_view,
  avg(startup_score) AS startup_score,
  avg(smoothness_score) AS smoothness_score,
  avg(success_score) AS success_score,
  avg(experience_score) AS experience_score
FROM view_scores GROUP BY {keys}
