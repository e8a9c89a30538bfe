//! The kinds of secrets, as data: the tokens of vendors by their shape, and the values that text,
//! code and command lines assign to passwords and keys.
//!
//! A token with an unambiguous prefix is recognized anywhere, the others only at the beginning of a
//! word.

use std::sync::OnceLock;

use super::rule::{AFTER, Rule, Start};

macro_rules! rules {
    ($($kind:literal $needles:tt $start:ident $(within $within:literal)? $(reach $reach:literal)? { $expression:expr } $secret:literal, $ordinary:literal;)*) => {
        /// The first rule that matches names the kind.
        pub(super) static RULES: [Rule; [$($kind),*].len()] = [$(Rule {
            kind: $kind,
            needles: &$needles,
            start: Start::$start,
            expression: $expression,
            within: last(&[AFTER $(, $within)?]),
            reach: 0 $(+ $reach)?,
            compiled: OnceLock::new(),
            #[cfg(test)]
            examples: ($secret, $ordinary),
        }),*];
    };
}

const fn last(values: &[usize]) -> usize {
    values[values.len() - 1]
}

/// The end of a value without quotes. A value before `(` or `[` is code.
macro_rules! end {
    () => {
        r#"(?:[\s"'`\\,;&)}\]<>|@]|$)"#
    };
}

/// An assignment to a name that begins with the group `$name`, up to the value: `"name": "`,
/// `name = `.
macro_rules! assigned {
    ($name:literal) => {
        concat!(
            r"(?i)(?",
            $name,
            r#"[a-z0-9_]*)(?:\\*["'])?\]?\s*(?::=|=>|={1,3}|:)\s*(?:\\*["'`])?"#
        )
    };
}

/// The options of a command, which can be on several lines, up to the next one.
macro_rules! options {
    () => {
        r"(?:(?:[ \t]|\\\n)+-\S+(?:[ \t]+[^\s\\-]\S*)?)*?(?:[ \t]|\\\n)+"
    };
}

// The macro's form keeps rustfmt from breaking each rule into six lines.
rules! {
    "private key" ["-----BEGIN "] Needle reach 16384
    { r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[\s\S]{0,200}?[A-Za-z0-9+/]{16}(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|[A-Za-z0-9+/=\s\\]*)" }
    "«-----BEGIN RSA PRIVATE KEY-----\n<44>\n-----END RSA PRIVATE KEY-----» x", "it starts with -----BEGIN PRIVATE KEY-----, not -----BEGIN PUBLIC KEY-----";

    // Convex: the keys of this product's own users. Those of Convex Cloud name their purpose. An
    // admin key is the name of an instance and at least 60 hexadecimal digits, so a name before a
    // hash of 40 or 64 digits is one only if the context says so.
    "convex key" ["prod:", "dev:", "preview:", "project:", "prod%3a", "dev%3a", "preview%3a", "project%3a"] Word
    { r"(?i:prod|dev|preview|project)(?::|%3[Aa])[A-Za-z0-9_.:%-]+(?:\\?\||%7[Cc])(?:[A-Za-z0-9+/_=-]|%(?:2[BbFf]|3[Dd])){16,}" }
    "«prod:happy-animal-123|eyJ2<44>==» x", "dev:name | prod:a|b";
    "convex key" ["convex"] Needle { r"(?i)convex[a-z0-9_-]*(?:\\?\||%7c)[0-9a-f]{16,}" }
    "'«convex-self-hosted|<h48>»'", "convex-self-hosted|…, convex | <h48>";
    "convex key" [
        "|0", "|1", "|2", "|3", "|4", "|5", "|6", "|7", "|8", "|9", "|a", "|b", "|c", "|d", "|e", "|f", "%7c",
    ] Anywhere { r"\b[A-Za-z](?:[A-Za-z0-9_-]*-[A-Za-z0-9_-]*(?:\\?\||%7[Cc])[0-9a-f]{64,}|[A-Za-z0-9_-]*(?:\\?\||%7[Cc])[0-9a-f]{65,})\b" }
    "key «happy-animal-123|<h64>».", "Jane|<h40> main|<h64> a-b|<h40>";
    "convex key" ["|ey", "%7cey"] Anywhere { r"\b[A-Za-z][A-Za-z0-9:_-]*(?:\\?\||%7[Cc])eyJ[A-Za-z0-9+/_=-]{16,}" }
    "key «shop|eyJ2<44>=» x", "table|eyJhbGciOi";

    // The access token of `npx convex login`.
    "convex key" ["eyj2mii6"] Word { r"eyJ2MiI6[A-Za-z0-9+/_-]{20,}={0,2}" } "key «eyJ2MiI6<44>=» x", "eyJ2MiI6";

    // Vendors of models and of services that agents use.
    "anthropic" ["sk-ant-"] Needle { r"sk-ant-[A-Za-z0-9_-]{16,}" } "_«sk-ant-api03-<44>» x", "sk-ant-none";
    "openrouter" ["sk-or-"] Needle { r"sk-or-(?:v[0-9]+-)?[A-Za-z0-9_-]{20,}" } "x=«sk-or-v1-<h64>».", "task-or-other";
    "openai" ["sk-"] Word { r"sk-(?:(?:proj|svcacct|admin|None|lf)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{20,})" }
    "\\n«sk-proj-<44>» x", "risk-assessment-of-a-very-long-name task-<44>";
    "groq" ["gsk_"] Needle { r"gsk_[A-Za-z0-9]{40,}" } "«gsk_<52>»", "gsk_model";
    "xai" ["xai-"] Needle { r"xai-[A-Za-z0-9]{40,}" } "«xai-<80>»", "xai-sdk-python";
    "hugging face" ["hf_", "api_org_"] Word { r"(?:hf_|api_org_)[A-Za-z0-9]{30,}" } "«hf_<34>»", "hf_hub_download_and_a_very_long_name";
    "replicate" ["r8_"] Word { r"r8_[A-Za-z0-9]{30,}" } "«r8_<37>»", "r8_unorm";
    "perplexity" ["pplx-"] Needle { r"pplx-[A-Za-z0-9]{40,}" } "«pplx-<48>»", "pplx-70b-online";
    "model key" ["tgp_v1_", "nvapi-", "csk-", "fw_", "jina_", "lsv2_", "pcsk_", "tvly-", "e2b_", "fc-", "ctx7sk-"] Word
    { r"(?:tgp_v1_[A-Za-z0-9_-]{40,}|nvapi-[A-Za-z0-9_-]{60,}|csk-[a-z0-9]{40,}|fw_[A-Za-z0-9]{20,}|jina_[A-Za-z0-9_-]{50,}|lsv2_(?:pt|sk)_[A-Za-z0-9_]{32,}|pcsk_[A-Za-z0-9_]{40,}|tvly-[A-Za-z0-9-]{24,}|e2b_[0-9a-f]{40}|fc-[0-9a-f]{32}|ctx7sk-[0-9a-f-]{36})" }
    "«tvly-dev-<32>»", "fc-list fw_update jina_embeddings";
    "github" ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"] Needle { r"gh[pousr]_[A-Za-z0-9]{30,}" } "_«ghp_<36>» x", "ghp_config gho_x";
    "github" ["github_pat_"] Needle { r"github_pat_[A-Za-z0-9_]{22,}" } "//«github_pat_<22>_<59>»@", "github_pat_name";
    "gitlab" ["glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glagent-", "glft-", "glsoat-", "glimt-", "GR1348941"] Needle
    { r"(?:gl(?:pat|dt|rt|ptt|cbt|agent|ft|soat|imt)-|GR1348941)[A-Za-z0-9_.-]{20,}" }
    "«glpat-<20>»", "glrt- global-variables-of-all-components";
    "npm" ["npm_"] Needle { r"npm_[A-Za-z0-9]{36}" } "=«npm_<36>»\\n", "npm_config_registry_of_the_whole_company_and_more";
    "pypi" ["pypi-"] Needle { r"pypi-[A-Za-z0-9_-]{50,}" } "«pypi-<88>»", "pypi-publish";
    "docker" ["dckr_"] Needle { r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}" } "«dckr_pat_<27>»", "dckr_pat_";
    "aws" ["AKIA", "ASIA", "ABIA", "ACCA"] Needle { r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b" } "id «AKIA<A16>»,", "AKIARA and ASIATIC";
    "aws" ["ABSK", "bedrock-api-key-"] Needle { r"(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{60,}={0,2}" } "«ABSK<110>=»", "bedrock-api-key-name";
    "google" ["AIza"] Needle { r"AIza[0-9A-Za-z_-]{35}" } "?key=«AIza<35>»", "AIzawa";
    "google" ["ya29.", "GOCSPX-"] Needle { r"(?:ya29\.|GOCSPX-)[0-9A-Za-z_-]{20,}" } "«GOCSPX-<28>»", "ya29.short";
    "azure" ["q~"] Anywhere { r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}" } "«abc8Q~<34>»", "q~ 8Q~x";
    "azure" ["accountkey=", "sharedaccesskey="] Needle { r"(?i:AccountKey|SharedAccessKey)=(?<any>[A-Za-z0-9+/]{40,}={0,2})" }
    "AccountName=shop;AccountKey=«<86>==»;EndpointSuffix=core", "AccountKey=<your key>";
    "azure" ["?sig=", "&sig=", ";sig="] Needle { r".sig=(?<any>[A-Za-z0-9%+/_-]{40,}={0,2})" } "?sv=2026&sig=«<41>%3D»&se=2027", "?sig=1&x";
    "digitalocean" ["dop_v1_", "doo_v1_", "dor_v1_"] Needle { r"do[opr]_v1_[0-9a-f]{40,}" } "«dop_v1_<h64>»", "do_v1_ dop_v1_x";
    "cloudflare" ["v1.0-", "cfut_", "cfat_", "cfk_"] Word { r"(?:v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}|cf(?:ut|at|k)_[A-Za-z0-9_-]{40,})" }
    "«v1.0-<h24>-<h146>»", "v1.0-beta cfk_x";
    "vercel" ["vcp_", "vci_", "vca_", "vcr_", "vck_", "vercel_blob_rw_"] Word { r"(?:vc[piark]_[A-Za-z0-9]{24,}|vercel_blob_rw_[A-Za-z0-9_]{30,})" }
    "«vcp_<56>»", "vcp_count vca_x";
    "supabase" ["sbp_", "sb_secret_"] Needle { r"sb(?:p|_secret)_[A-Za-z0-9_-]{20,}" } "«sb_secret_<31>»", "sbp_ sb_secret_name";
    "linear" ["lin_"] Needle { r"lin_(?:api|oauth)_[A-Za-z0-9]{30,}" } "«lin_api_<40>»", "lin_api_key";
    "notion" ["ntn_", "secret_"] Word { r"(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}\b)" } "«ntn_<46>»", "secret_name ntn_x";
    "telegram" [":aa"] Anywhere { r"[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}" } "/bot«7563212233:AA<33>»/me", "2026-11-26 10:AA 1234567890:AAbc";
    "discord" ["MT", "MD", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"] Word
    { r"[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}" } "Bot «MTk4<22>.Cl2FMQ.<38>»", "MTA.local.name NOT. TODO.";
    "discord" ["discord"] Needle { r"discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]+/(?<any>[A-Za-z0-9_-]{30,})" }
    "https://discord.com/api/webhooks/123456789012345678/«<68>»", "discord.com/api/webhooks/{id}/{token}";
    "slack" ["xox"] Needle { r"xox[a-z]-[A-Za-z0-9-]{10,}" } "«xoxb-1234567890-<24>»", "xoxo-hugs";
    "slack" ["xapp-"] Needle { r"xapp-[0-9]-[A-Za-z0-9-]{10,}" } "«xapp-1-<40>»", "xapp-main";
    "slack" ["hooks.slack.com/"] Needle { r"hooks\.slack\.com/(?:services|workflows|triggers)/(?<any>[A-Za-z0-9_/+-]{20,})" }
    "https://hooks.slack.com/services/«T0123/B0123/<24>»", "hooks.slack.com/services/T0/B0";
    "stripe" ["sk_live_", "rk_live_", "pk_live_", "sk_test_", "rk_test_", "pk_test_"] Needle { r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}" } "«sk_live_<24>»", "mark_test_x";
    "stripe" ["whsec_"] Needle { r"whsec_[A-Za-z0-9+/=]{16,}" } "«whsec_<32>»", "whsec_x";
    "twilio" ["SK"] Word { r"SK[0-9a-f]{32}\b" } "«SK<h32>»", "SKILLS.md TASK<h32>";
    "sendgrid" ["SG."] Word { r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}" } "«SG.<22>.<43>»", "SG.local MSG.x";
    "mailgun" ["key-"] Word { r"key-[0-9a-f]{32}\b" } "api:«key-<h32>»", "key-value monkey-<h32>";
    "sentry" ["sntry"] Needle { r"sntry[su]_[A-Za-z0-9+/=_-]{40,}" } "«sntrys_<64>_<43>»", "sntrys_";
    "databricks" ["dapi"] Word { r"dapi[0-9a-f]{32}(?:-[0-9])?" } "«dapi<h32>-2»", "dapi_client";
    "age" ["age-secret-key-"] Needle { r"(?i)AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{50,}" } "«AGE-SECRET-KEY-1<A58>»", "AGE-SECRET-KEY-1…";
    "shopify" ["shpat_", "shpca_", "shppa_", "shpss_"] Needle { r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32,}" } "«shpat_<h32>»", "shpat_x";
    "grafana" ["glsa_", "glc_"] Needle { r"gl(?:sa|c)_[A-Za-z0-9_+/=]{32,}" } "«glsa_<32>_<h8>»", "glc_x";
    "doppler" ["dp."] Word { r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}" } "«dp.pt.<43>»", "dp.pt.x";
    "postman" ["PMAK-"] Needle { r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}" } "«PMAK-<h24>-<h34>»", "PMAK-x";
    "planetscale" ["pscale_"] Needle { r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}" } "«pscale_tkn_<43>»", "pscale_tkn_x";
    "vault" ["hvs.", "hvb."] Word { r"hv[sb]\.[A-Za-z0-9_-]{24,}" } "«hvs.<90>»", "hvs.x";
    "terraform" [".atlasv1."] Anywhere { r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,}" } "«<14>.atlasv1.<67>»", "x.atlasv1.y";
    "atlassian" ["ATATT3", "ATCTT3", "ATBB"] Needle { r"AT(?:ATT3|CTT3|BB)[A-Za-z0-9_=-]{24,}" } "«ATATT3xFf<180>»", "ATTACHMENT";
    "token" ["figd_", "rubygems_", "tskey-", "pul-", "CCIPAT_", "NRAK-", "xkeysib-", "phx_", "re_", "napi_", "nfp_", "rnd_", "fm2_", "fo1_", "CFPAT-"] Word
    { r"(?:figd_[A-Za-z0-9_-]{40,}|rubygems_[0-9a-f]{48}|tskey-[a-z]+-[A-Za-z0-9-]{20,}|pul-[0-9a-f]{40}|CCIPAT_[A-Za-z0-9_]{40,}|NRAK-[A-Z0-9]{27}|xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}|phx_[A-Za-z0-9_]{40,}|re_[A-Za-z0-9]{8,}_[A-Za-z0-9]{20,}|napi_[a-z0-9]{60,}|nfp_[A-Za-z0-9]{36,}|rnd_[A-Za-z0-9]{28,}|f[mo][12]_[A-Za-z0-9+/=_-]{40,}|CFPAT-[A-Za-z0-9_-]{43})" }
    "«re_<8>_<24>»", "re_export rnd_seed napi_create_function_and_more pul-request";
    "token" ["ops_eyj", "HRKU-AA", "sqp_", "squ_", "sqa_", "sgp_", "sq0atp-", "sq0csp-", "tfp_", "pnu_", "rdme_", "dt0c01.", "aio_", "shippo_", "sha256~", "LTAI", "AKCp", "EZAK"] Word
    { r"(?:ops_eyJ[A-Za-z0-9+/=_-]{60,}|HRKU-AA[A-Za-z0-9_-]{40,}|sq[pua]_[0-9a-f]{40}|sgp_(?:[A-Za-z0-9]+_)?[0-9a-fA-F]{40}|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,}|tfp_[A-Za-z0-9_.=-]{40,}|pnu_[A-Za-z0-9]{36}|rdme_[a-z0-9]{60,}|dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{64}|aio_[A-Za-z0-9]{28}|shippo_(?:live|test)_[0-9a-f]{40}|sha256~[A-Za-z0-9_-]{43}|LTAI[A-Za-z0-9]{20}|AKCp[A-Za-z0-9]{60,}|EZAK[A-Za-z0-9]{54})" }
    "«sqp_<h40>»", "aio_open sha256~x sgp_x pnu_value tfp_ sq0atp- LTAIR AKCpx";
    "token" ["bkua_", "pat-"] Word { r"(?:bkua_[0-9a-f]{40}|pat-(?:na|eu|ap)[0-9]-[0-9a-f]{8}-[0-9a-f-]{27})" } "«pat-na1-<h8>-0123-4567-89ab-<h12>»", "pat-down bkua_x";
    "teams" ["webhook.office.com/"] Needle { r"webhook\.office\.com/(?:webhookb2/)?(?<any>[A-Za-z0-9@/_-]{40,})" }
    "https://shop.webhook.office.com/webhookb2/«<h32>@<h32>/IncomingWebhook/<h32>»", "https://shop.webhook.office.com/webhookb2/<id>";
    "airtable" ["pat"] Word { r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}" } "«pat<14>.<h64>»", "pattern patch.diff path.join";
    "token" ["sk_", "sk.eyj", "EAAA", "sl."] Word
    { r"(?:sk_[0-9a-f]{48}|sk\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{16,}|EAAA[A-Za-z0-9_-]{60}|sl\.(?:u\.)?[A-Za-z0-9_-]{100,})" }
    "«sk_<h48>»", "sk_test sk.eyJ2 EAAAA sl.no";
    "jwt" ["eyj"] Needle { r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*" } "«eyJ<20>.eyJ<30>.<43>»", "eyJ2 eyJhbGciOi";

    // Headers and command lines.
    "secret" ["authorization"] Needle
    { concat!(r#"(?i)authorization(?:\\*["'])?\]?\s*[:=]\s*(?:\\*["'`])?(?:(?:bearer|basic|convex|token|bot|digest|apikey|api-key)\s+(?<given>[^\s"'`\\,;<>{}()]{8,})|(?:[a-z-]+\s+)?(?<mixed>[^\s"'`\\,;<>{}()]{8,}))"#, end!()) }
    "-H 'Authorization: Convex «admin|<h48>»'", "Authorization: Bearer $TOKEN, authorization: the header is required";
    "secret" ["bearer "] Needle { concat!(r#"(?i)bearer\s+(?<random>[A-Za-z0-9._~+/=|:-]{16,})"#, end!()) } "send Bearer «<32>» there", "bearer authentication-of-users";
    "secret" ["x-", "api-key", "apikey", "private-token", "job-token", "subscription-key"] Needle within 512
    { concat!(r#"(?i)(?<name>x-[a-z0-9-]*(?:key|token|secret|auth)|api-?key|private-token|job-token|subscription-key)(?:\\*["'])?\s*[:=]\s*(?:\\*["'`])?(?<mixed>[^\s"'`\\,;<>{}()@]{6,})"#, end!()) }
    "-H 'X-Api-Key: «abc1234»'", "x-api-key: required, X-Idempotency-Key: <your key>";
    "secret" ["-pass", "-pwd", "-token", "-secret", "-key", "-apikey", "--auth"] Anywhere
    { concat!(r#"(?i)--[a-z-]*(?:password|passwd|passphrase|pass|pwd|token|secret|api-?key|access-?key|private-?key|deploy-?key|admin-?key|auth)(?:=(?:\\*["'`])?(?<given>[^\s"'`\\;|<>]{4,})|\s+\\*["'](?<given2>[^\s"'`\\]{4,})|\s+(?<mixed>[^\s"'`\\;|<>]{6,}))"#, end!()) }
    "login --password «hunter2» --user me", "--password-stdin, --token flag, --max-tokens 4096, --token $TOKEN, --token=<TOKEN>";
    "password" [" -u", "--user", "--proxy-user", " -a "] Needle
    { r#"\s?(?:-u|-U|-a|--user|--proxy-user)[ =]*\\*["']?[^\s:"'@/\\]+:(?<mixed>[^\s"'`\\]{4,})"# }
    "http -a admin:«hunter2» x", "docker run -u 1000:1000, --user node:node";
    "password" ["curl"] Needle
    { r#"curl\b.*?\s(?:-[a-zA-Z]*[uU]|--user|--proxy-user)[ =]*\\*["']?[^\s:"'@/\\]+:(?<given>[^\s"'`\\]{3,})"# }
    "curl -su me:«correcthorse» https://x", "curl -u me:$PASSWORD, curl -u me https://x:1/";
    // Other programs have options that begin with `-p`, and ports are not passwords.
    "password" ["mysql", "mariadb"] Anywhere reach 256
    { concat!(r"(?:^|[\s;|&(`'\x22]|/bin/)(?:mysql|mariadb)(?:-?[a-z]+)?(?:[ \t]+[^\s\\-]\S*)?", options!(), r#"-p\\*["']?(?<mixed>[^\s:="'`\\;|&<>%@-][^\s:="'`\\;|&<>]{2,})"#) }
    "mysql -u root -p«hunter2» shop", "mysql -u root -p shop, mysql -P 3306, find lib/mysql -print0, docker run --name mysql -plocalhost:3306:3306";
    "password" ["sshpass", "redis-cli", "docker login", "podman login"] Needle reach 256
    { concat!(r"(?:sshpass\s+-p\s*|redis-cli", options!(), r"-a\s+|(?:docker|podman) login(?:[ \t]+[^\s\\-]\S*[.:]\S*)?", options!(), r#"-p\s+)\\*["']?(?<given>[^\s"'`\\;|&<>-][^\s"'`\\;|&<>]{2,})"#) }
    "sshpass -p «hunter2» ssh me@host", "docker login -p $TOKEN x, redis-cli with -a and docker login or podman login with the -p option";
    "password" ["://"] Needle within 512 { r#"://[^\s:/@"'`<>]*:(?<login>[^\s"'`<>]+)@"# }
    "HTTPS://me:«p@ss:w/rd»@db/x", "http://localhost:4873/@scope/name https://u:$PW@x ssh://git@h:22";
    "password" ["machine", "default"] Needle within 512 reach 256
    { r#"(?:machine\s+\S+|default)\s+login\s+\S+\s+(?:account\s+\S+\s+)?password\s+(?<given>[^\s"'`]+)"# }
    "machine example.com\n  login me\n  password «correct-horse»\n", "the machine has a login and password prompt";
    "secret" ["cookie:", "cookie=", "cookie =", "cookie\"", "cookie'", "cookie\\", "cookie ", " -b "] Needle within 1024
    { r#"(?i)(?:cookie(?:(?:\\*["'])?\s*[:=]|\s)|\s-b\s)\s*(?:\\*["'])?(?:[^\s=;"'\\]+=[^\s;"'\\]*;\s*)*?[^\s=;"'\\]+=(?<random>[^\s;"'\\,]{16,}(?:;\s*[^\s=;"'\\,]+=[^\s;"'\\,]{16,})*)"# }
    "-H 'Cookie: theme=dark; session=«<32>; csrf=<32>»; lang=en'", "Cookie: theme=dark; lang=en, document.cookie = name + value, cookie: session=$SESSION_OF_THE_USER";
    "secret" ["signature=", "response="] Needle { r#"(?i)(?:signature|response)=\\*["']?(?<random>[0-9a-z+/%_-]{32,}=*)"# }
    "AWS4-HMAC-SHA256 Credential=x, Signature=«<h64>»", "signature=none response=ok";
    "secret" ["\"auth\"", "\\\"auth\\\"", "_auth="] Needle { r#"(?:\\*"auth\\*"\s*:\s*\\*"|_auth\s*=\s*"?)(?<any>[A-Za-z0-9+/]{12,}={0,2})"# }
    "{\"auth\": \"«<24>»\"}", "{\"auth\": \"none\"}";

    // Assignments.
    "secret" ["claude_code_messaging_token"] Needle
    { r#"CLAUDE_CODE_MESSAGING_TOKEN(?:\\*["'])?\]?\s*[:=,]?\s*(?:\\*["'`])?(?<given>[^\s"'`\\;,<>(){}]{6,})"# }
    "{\"CLAUDE_CODE_MESSAGING_TOKEN\":\"«abcdefghijkl»\"}", "unset CLAUDE_CODE_MESSAGING_TOKEN, then";
    // An upper-case name is an environment variable. With quotes, its value can contain spaces, and
    // without quotes any punctuation.
    "secret" ["PASSW", "PASSPHRASE", "SECRET"] Needle
    { r#"(?<name>(?:PASSWORD|PASSWD|PASSPHRASE|SECRET)[A-Z0-9_]*)(?:["']?\s*[:=]\s*(?:"(?<given1>[^"\n]{4,})"|'(?<given2>[^'\n]{4,})')|=(?<given3>[^\s"'`;&,\\]{4,}))"# }
    "INSTANCE_SECRET: '«ab cd»' x", "PASSWORD_FILE=/run/secrets/db PASSWORD=$PW SECRET: 'redacted'";
    "secret" ["passphrase"] Needle { r#"(?i)(?<name>passphrase[a-z0-9_]*)["']?\s*[:=]\s*(?:"(?<given1>[^"\n]{4,})"|'(?<given2>[^'\n]{4,})')"# }
    "passphrase: '«top of the morning»',", "passphrase: 'required'";
    "secret" ["passw", "passphrase", "pwd"] Needle
    { concat!(r#"(?i)(?<name>(?:passw(?:or)?d|passphrase|pwd)[a-z0-9_]*)(?:\\*["'])?\]?(?:\s*(?::=|=>|={1,3}|:)\s*(?:"(?<given1>(?:[^\s"\\]|\\[^"'\s])+)"|'(?<given2>(?:[^\s'\\]|\\[^"'\s])+)'|\\+["'](?<given3>[^\s"'\\]{4,}))|=(?<given4>[^\s"'`\\;,&<>(){}\[\]]{4,})"#, end!(), r#"|\s*[:=]\s+(?<mixed>[^\s"'`\\;,&<>(){}\[\]]{6,})"#, end!(), ")") }
    "\\\"db_password\\\": \\\"«correct-horse»\\\"", "password = get_password() password: string password=None PWD=/home/me passwordField: \"login\"";
    "secret" ["secret", "credential"] Needle within 512
    { concat!(assigned!("<name>(?:secret|credential)"), r#"(?<mixed>[^\s"'`\\;,&<>(){}\[\]]{8,})"#, end!()) }
    "client_secret = «abc123de»", "secret: Option<String> secrets: inherit credentials: \"include\" secretName: \"db-secret-2\"";
    "secret" ["secret", "token", "credential", "_auth"] Needle within 512
    { concat!(assigned!("<name>(?:secret|token|credential|_auth)"), r#"(?<random>[^\s"'`\\;,&<>(){}\[\]@]{8,})"#, end!()) }
    "\"refreshToken\": \"«<32>»\"", "let token = parser.next_token(); tokens: 12345 max_tokens=4096 \"token\": \"o200k_base\"";
    "secret" ["key"] Needle within 512
    { concat!(assigned!("<key>key"), r#"(?<random>[^\s"'`\\;,&<>(){}\[\]@]{8,})"#, end!()) }
    "MISTRAL_API_KEY=«<32>»", "public_key=<h40> monkey: <12>";
    "secret" ["password>", "secret>", "token>", "key>"] Needle
    { r"(?i)(?:password|secret|token|(?<key>key))>(?<given>[^\s<>]{4,})</" } "<password>«hunter2»</password>", "<token>…</token> <password></password>";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::redact::masked;
    use crate::record::redact::rule::{Haystack, Work};

    /// The example with random text in place of `<N>`, `<hN>` and `<AN>`: assembled here so that no
    /// scanner mistakes this file for a leak.
    fn filled(example: &str) -> String {
        let random = |letters: &str, length: usize| -> String {
            letters.chars().cycle().take(length).collect()
        };
        let mut filled = String::new();
        let mut rest = example;
        while let Some((before, after)) = rest.split_once('<') {
            filled.push_str(before);
            let (placeholder, behind) = after.split_once('>').unwrap_or(("", ""));
            let digits = placeholder.trim_start_matches(['h', 'A']);
            let text = digits.parse().ok().map(|length| match &placeholder[..1] {
                "h" => random("9f0c2b7e41d8a653", length),
                "A" => random("Q7ZR3XK9VT5WM2", length),
                _ => random("Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z", length),
            });
            if let Some(text) = text {
                filled.push_str(&text);
                rest = behind;
            } else {
                filled.push('<');
                rest = after;
            }
        }
        filled + rest
    }

    /// The text to mask and the expected result.
    fn example(marked: &str, kind: &str) -> (String, String) {
        let marked = filled(marked);
        let (before, rest) = marked.split_once('«').unwrap();
        let (secret, after) = rest.split_once('»').unwrap();
        (
            format!("{before}{secret}{after}"),
            format!("{before}[redacted {kind}]{after}"),
        )
    }

    #[test]
    fn each_rule_masks_its_example_and_leaves_ordinary_text() {
        let mut wrong = Vec::new();
        for rule in &RULES {
            let (secret, ordinary) = rule.examples;
            let (text, expected) = example(secret, rule.kind);
            let mut found = Vec::new();
            let mut work = Work::limited(usize::MAX);
            rule.find(0, &Haystack::new(&text), &mut work, &mut found);
            found.dedup();
            if found.len() != 1 {
                wrong.push(format!("{}: {text}: {found:?}", rule.kind));
            }
            let ordinary = filled(ordinary);
            for (text, expected) in [(text, expected), (ordinary.clone(), ordinary)] {
                let masked = masked(&text);
                if masked != expected {
                    wrong.push(format!("{}: {text}\n  -> {masked}", rule.kind));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Other forms of the same kinds, with the secret between « and ».
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn secrets_are_masked_in_every_form() {
        let mut wrong = Vec::new();
        for (kind, marked) in [
            // Keys of Convex: escaped, URL-encoded, in headers, variables and commands.
            ("convex key", "«dev:happy-animal-123|<44>» to"),
            (
                "convex key",
                "?a=«prod%3Ahappy-animal-123%7CeyJ2<44>%3D%3D»&b",
            ),
            ("convex key", "«preview%3Ateam%3Aproject%7CeyJ2<44>%3D»"),
            ("convex key", "«project:team:project|eyJ2<44>=»"),
            ("convex key", r"prod «prod:a-b-1\|eyJ2<44>=»"),
            (
                "convex key",
                "CONVEX_DEPLOY_KEY='«prod:happy-animal-123|eyJ2<44>=»'",
            ),
            ("convex key", "Authorization: Convex «dev:a-b-1|eyJ2<44>=»"),
            (
                "convex key",
                "Authorization: Convex «convex-self-hosted|<h70>»",
            ),
            ("convex key", "key=«convex-self-hosted%7C<h70>»&x"),
            ("convex key", "CONVEX_SELF_HOSTED_ADMIN_KEY=«shop|<h74>»"),
            ("convex key", r#"{\"adminKey\":\"«my_app|<h74>»\"}"#),
            // Prefixes behind escapes and underscores.
            ("github", r"a\n«ghp_<36>»\nb"),
            ("github", "%3D«ghs_<36>»%26"),
            ("github", "https://x-access-token:«ghs_<36>»@github.com/x"),
            ("openai", "%3D«sk-<48>»"),
            ("openai", r"\t«sk-svcacct-<48>»"),
            ("anthropic", "«sk-ant-oat01-<88>»"),
            ("slack", "«xoxp-1-2-3-<h32>» "),
            ("jwt", "apikey: «eyJ<20>.eyJ<60>.<43>»"),
            ("aws", "aws_access_key_id = «AKIA<A16>»"),
            (
                "azure",
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=«<86>==»;x",
            ),
            (
                "private key",
                r#""private_key": "«-----BEGIN PRIVATE KEY-----\n<64>\n<20>=\n-----END PRIVATE KEY-----»\n""#,
            ),
            (
                "private key",
                "«-----BEGIN OPENSSH PRIVATE KEY-----\n<64>\n<64>»",
            ),
            // Assignments.
            (
                "secret",
                "aws_secret_access_key = «wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»",
            ),
            (
                "secret",
                "AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»",
            ),
            (
                "secret",
                r#""SecretAccessKey": "«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»","#,
            ),
            ("secret", r#""SessionToken": "«<90>/+<20>==»""#),
            ("secret", "COHERE_API_KEY=«<40>»"),
            ("secret", "export MISTRAL_API_KEY=\"«<32>»\""),
            ("secret", "api_key: «<h32>»"),
            ("secret", "TWILIO_AUTH_TOKEN=«<h32>»"),
            ("secret", "VERCEL_TOKEN=«<24>»"),
            ("secret", "api_key='«550e8400-e29b-41d4-a716-446655440000»'"),
            ("secret", "os.environ[\"OPENAI_API_KEY\"] = \"«<32>»\""),
            ("secret", "//registry.npmjs.org/:_authToken=«<h36>»"),
            ("secret", "CLAUDE_CODE_MESSAGING_TOKEN=«abcdefghijklmnop»"),
            ("secret", "export CLAUDE_CODE_MESSAGING_TOKEN=\"«<44>»\""),
            ("secret", r#"{\"CLAUDE_CODE_MESSAGING_TOKEN\":\"«<44>»\"}"#),
            ("secret", "CLAUDE_CODE_MESSAGING_TOKEN: '«<h64>»'"),
            ("secret", "password: «hunter2»"),
            (
                "secret",
                "Server=db;User Id=sa;Password=«Str0ng!Pass»;Encrypt=true",
            ),
            (
                "secret",
                "jdbc:postgresql://db/x?user=me&password=«hunter2»&ssl=true",
            ),
            ("secret", "spring.datasource.password=«correct-horse»"),
            ("secret", "DB_PASSWORD=«p@ss(w)ord»"),
            ("secret", r#"curl -d '{\"password\": \"«<44>»\"}'"#),
            // Headers and command lines.
            ("secret", "curl -H \"x-api-key: «<32>»\" https://x"),
            ("secret", "-H 'X-Auth-Token: «abc123»'"),
            ("secret", r#""x-api-key": "«abc12345»""#),
            ("secret", "Private-Token: «<20>»"),
            ("secret", "Authorization: Token «abcdef123456»"),
            (
                "secret",
                "Authorization: GenieKey «550e8400-e29b-41d4-a716-446655440000»",
            ),
            ("secret", "authorization: «<h40>» then-some-other-words"),
            (
                "secret",
                r#"{"Authorization":"Basic «dXNlcjpwYXNzd29yZA==»"}"#,
            ),
            (
                "secret",
                "Proxy-Authorization: Basic «dXNlcjpwYXNzd29yZA==»",
            ),
            ("secret", "mysql --password=«hunter» -u root"),
            ("password", "mysqldump -uroot -p'«s3cret»' shop"),
            (
                "password",
                "mysql -h db \\\n  -u root \\\n  -p«hunter2secret»",
            ),
            ("password", "/usr/bin/mysqldump shop -p«hunter2»"),
            ("password", "docker login ghcr.io \\\n  -u me -p «hunter2»"),
            ("secret", "curl -b 'session=«<h32>»' https://x"),
            ("secret", "curl --cookie \"session=«<40>»\" https://x"),
            ("password", "redis-cli -h cache -a «hunter2» ping"),
            ("password", "docker login -u me -p «hunter2» ghcr.io"),
            (
                "secret",
                r#"{\"Set-Cookie\": \"sid=«<40>»; Path=/; HttpOnly\"}"#,
            ),
            ("secret", "--db-password «<44>»"),
            ("secret", "--password '«correct-horse»' x"),
            ("secret", "--token «<32>» --verbose"),
            ("secret", "--api-key=«<32>»"),
            ("secret", "--api-key «<32>»"),
            ("password", "curl -u admin:«hunter2» https://x"),
            ("password", "curl https://x -u 'admin:«hunter»'"),
            ("password", "curl --user admin:«hunter» https://x"),
            ("password", "curl https://x \\\n  -u admin:«hunter2»"),
            (
                "password",
                "mongodb+srv://me:«s3cret»@cluster0.x.mongodb.net/db",
            ),
            ("password", "redis://:«s3cret»@cache:6379/0"),
            ("password", "amqps://me:«p@ss»@mq"),
            ("password", "machine x login me password «hunter»"),
            (
                "password",
                "connecting to postgres://convex:«hunter2»@db.example:5432/x",
            ),
            ("password", "mysql://u:«p@ss:w/rd»@db"),
            ("password", "postgres://u:«12/34»@db"),
        ] {
            let (text, expected) = example(marked, kind);
            let masked = masked(&text);
            if masked != expected {
                wrong.push(format!("{text}\n  -> {masked}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn text_that_only_names_a_secret_is_not_masked() {
        for text in [
            "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "| config.yml|9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 |",
            "550e8400-e29b-41d4-a716-446655440000",
            "tokens: 12345, max_tokens=4096 total_tokens: 1234567890 token_budget=200k",
            "cache_read_input_tokens=123456789,output_tokens=987654321",
            "\"usage\":{\"input_tokens\":12345678,\"cache_creation_input_tokens\":87654321}",
            "\"token_type\": \"bearer\", \"tokenType\": \"Bearer12345\"",
            "tokenizer = \"cl100k_base\"; token_url: \"https://oauth2.example.com/token\"",
            "PASSWORD_FILE=/run/secrets/db_password SECRET_PATH=/etc/secret2",
            "private_key = \"~/.ssh/id_ed25519\" ssh_key: /home/me/.ssh/id_rsa2",
            "let secret = read_secret(2)?; token = tokens[i12345678];",
            "token: Token12345, secret: Secret<String>, key: &ApiKey",
            "password = config.db_password; password=password, newPassword: state.newPassword",
            "api_key=os.environ[\"OPENAI_API_KEY\"] apiKey: process.env.OPENAI_API_KEY2",
            "api_key: ${{ secrets.API_KEY_2 }} token: $GITHUB_TOKEN1 key=<your-key-12345>",
            "OPENAI_API_KEY=sk-... ANTHROPIC_API_KEY=your-api-key-12345678",
            "the password: it has at least 12 characters, and the secret: 2 of 3",
            "use --token to log in, --password prompts, --password-stdin reads, --api-key KEY",
            "git push -u origin:main, chown -R 1000:1000, docker run -u 1000:1000 x",
            "Authorization: Bearer <token>, Authorization: Bearer ${TOKEN}, Authorization: required",
            "x-api-key: your-key, x-idempotency-key, the Authorization header",
            "public_key=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "monkey: abc123def456 keyboard=Qwerty123456 turkey=12345abcde",
            "https://example.com/a:b@c https://npm.example:4873/@scope/pkg git@github.com:a/b.git",
            "http://localhost:4873/@scope/name http://127.0.0.1:3210 user@host",
            "see src/token/secret_store.rs:123 and docs/password-reset-2.md",
            "const TOKEN_2: usize = 0x0012; TOKEN = 0x80041064",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn each_expression_compiles() {
        for rule in &RULES {
            assert!(rule.regex().is_some(), "{}", rule.expression);
        }
    }
}
