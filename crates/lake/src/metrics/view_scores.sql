SELECT *,
  CASE
    WHEN success_score = 0 THEN 0.0
    WHEN startup_score IS NOT NULL AND smoothness_score IS NOT NULL
      THEN success_score / 100.0 * sqrt(startup_score * smoothness_score)
    WHEN success_score < 100 THEN success_score
  END AS experience_score
FROM (
  SELECT *,
    100.0 * 8.0 / (8.0 + startup_ms / 1000.0) AS startup_score,
    CASE WHEN started AND watched_ms > 0 THEN
      50.0 * (1.0 / sqrt(1.0 + power(stall_count / 2.0, 2.0)) + exp(-10.0 * stall_ms / watched_ms))
    END AS smoothness_score,
    CASE
      WHEN fatal_error AND error_class = 'entitlement' THEN NULL
      WHEN fatal_error THEN 0.0
      WHEN exit_before_start AND watched_ms >= 1000 THEN 50.0
      WHEN exit_before_start THEN NULL
      ELSE 100.0
    END AS success_score
  FROM views
)
