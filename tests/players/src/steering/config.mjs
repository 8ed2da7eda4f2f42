// The configuration files of a case's deployment: two CDNs and an own edge in one region, numbers as in production.

/** The cheaper CDN, the dearer one, an own edge. */
export const PATHWAYS = ["cdn-a", "cdn-b", "own-1"];
export const REGION = "eu";
export const WRITE_KEY = "write-key-1";
export const OPERATOR_TOKEN = "an-operator-of-tests";
const SERVICE_TOKEN = "a-service-token-for-tests";

/** Static weights of pathways that aren't first: the other CDN stands in, the small own edge doesn't. */
const STATIC = { "cdn-a": 100, "cdn-b": 100, "own-1": 1 };

/** Everybody starts on `first`: static weights say so while nobody has been heard, price and capacity later. */
export function spillwayConfig({ dir, fronts, tap, origin, first, policy, sha256 }) {
  const weights = PATHWAYS.map((id) => `${id} = ${id === first ? 100_000 : STATIC[id]}`).join(", ");
  const numbers = Object.entries(policy).map(([name, value]) => `${name} = ${value}`);
  // An own edge is filled first if it has room; where a CDN is to be first, it has none.
  const own_mbps = first === "own-1" ? 1000 : 0.05;
  return `
data_dir = ${JSON.stringify(dir)}
service_token = "${SERVICE_TOKEN}"

[[token]]
name = "tests"
role = "operator"
sha256 = "${sha256}"

[[property]]
id = "site"
write_key = "${WRITE_KEY}"

[[region]]
id = "${REGION}"
control_share = 1.0
static_weights = { ${weights} }

[[pathway]]
id = "cdn-a"
base_url = "${fronts.urls["cdn-a"]}"
capacity_mbps = 1000
price_usd_per_gb = 0.008

[[pathway]]
id = "cdn-b"
base_url = "${fronts.urls["cdn-b"]}"
capacity_mbps = 1000
price_usd_per_gb = 0.012

[[pathway]]
id = "own-1"
base_url = "${fronts.urls["own-1"]}"
capacity_mbps = ${own_mbps}

[policy]
${numbers.join("\n")}

[collector]
listen = "127.0.0.1:0"

[steer]
listen = "127.0.0.1:0"
public_url = "${tap.url}"
origins = { default = "${origin}" }
token_key = "only-for-tests-0123456789abcdef0"

[orchestrator]
listen = "127.0.0.1:0"

[dashboard]
listen = "127.0.0.1:0"
`;
}

export const edgeConfig = ({ dir, fronts, origin, orchestrator, collector }) => `
data_dir = ${JSON.stringify(`${dir}/edge`)}
service_token = "${SERVICE_TOKEN}"

[edge]
listen = "127.0.0.1:0"
pathway = "own-1"
region = "${REGION}"
base_url = "${fronts.urls["own-1"]}"
origin = "${origin}"
ceiling_mbps = 1000
orchestrators = ["${orchestrator}"]
collectors = ["${collector}"]
`;
