SELECT property, view_id, source, count(*) AS steps,
  sum(q_mbps) - 4.3 * sum(stall_s) - sum(change_mbps) AS qoe_lin,
  (sum(q_mbps) - 4.3 * sum(stall_s) - sum(change_mbps)) / count(*) AS qoe_lin_per_step
FROM (
  SELECT property, view_id, source,
    bitrate_kbps / 1000.0 AS q_mbps,
    (stall_ms - coalesce(lag(stall_ms) OVER (PARTITION BY property, view_id, source ORDER BY seq), 0)) / 1000.0
      AS stall_s,
    coalesce(abs(bitrate_kbps - lag(bitrate_kbps) OVER (PARTITION BY property, view_id, source ORDER BY seq)), 0)
      / 1000.0 AS change_mbps
  FROM events
  WHERE "type" = 'heartbeat' AND bitrate_kbps IS NOT NULL AND stall_ms IS NOT NULL
)
GROUP BY property, view_id, source
