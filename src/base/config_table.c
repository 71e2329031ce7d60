/*
 * config_table.c - every key of the configuration, in the order of the sample file.
 */
#include "walagent/base/config.h"

/* clang-format off */
const wa_option wa_options[] = {
    {.section = "cluster", .key = "name", .type = WA_OPT_STRING, .fallback = "main",
     .doc = "The cluster's key prefix in the repository: lower-case letters, digits, '-' and '_', "
            "at most 63."},
    {.section = "cluster", .key = "conninfo", .type = WA_OPT_STRING, .secret = true,
     .example = "host=/var/run/postgresql user=walagent",
     .doc = "How to connect to PostgreSQL (libpq's connection string). Several hosts are allowed; "
            "the agent follows the primary."},
    {.section = "cluster", .key = "data_dir", .type = WA_OPT_PATH,
     .example = "/var/lib/postgresql/15/main",
     .doc = "PostgreSQL's data directory on this machine. Needed for local backups only."},
    {.section = "cluster", .key = "slot", .type = WA_OPT_STRING, .fallback = "walagent",
     .doc = "The physical replication slot that keeps WAL for the agent."},

    {.section = "repository", .key = "url", .type = WA_OPT_URL, .limits = "file|s3",
     .example = "s3://bucket/prefix",
     .doc = "Where the archive is: file:///DIRECTORY or s3://BUCKET/PREFIX."},
    {.section = "repository", .key = "s3_endpoint", .type = WA_OPT_URL, .limits = "http|https",
     .example = "https://s3.example.net",
     .doc = "The S3 service. Without it, that of AWS for the region."},
    {.section = "repository", .key = "s3_region", .type = WA_OPT_STRING, .example = "us-east-1",
     .doc = "The region that requests are signed for. Without it, AWS_REGION or the profile's, "
            "else us-east-1."},
    {.section = "repository", .key = "s3_addressing", .type = WA_OPT_ENUM, .fallback = "auto",
     .limits = "auto|path|virtual",
     .doc = "Whether the bucket is in the URL's path or in the host name."},
    {.section = "repository", .key = "s3_access_key_id", .type = WA_OPT_STRING, .secret = true,
     .reloadable = true,
     .doc = "Access key. Without one, the standard AWS chain: environment, shared credentials file "
            "and profile, web identity, container, instance."},
    {.section = "repository", .key = "s3_secret_access_key", .type = WA_OPT_STRING, .secret = true,
     .reloadable = true, .doc = "The secret that belongs to the access key."},
    {.section = "repository", .key = "s3_session_token", .type = WA_OPT_STRING, .secret = true,
     .reloadable = true, .doc = "The session token of temporary credentials."},
    {.section = "repository", .key = "s3_profile", .type = WA_OPT_STRING, .reloadable = true,
     .example = "default",
     .doc = "Profile of the shared AWS configuration and credentials files. Without it, "
            "AWS_PROFILE, else \"default\"."},
    {.section = "repository", .key = "s3_ca_file", .type = WA_OPT_PATH,
     .example = "/etc/walagent/ca.pem",
     .doc = "Certificates (PEM) that the S3 service's certificate must lead to. Without it, the "
            "system's."},
    {.section = "repository", .key = "s3_verify_tls", .type = WA_OPT_BOOL, .fallback = "on",
     .doc = "off accepts any certificate, and warns about it at every start."},
    {.section = "repository", .key = "s3_storage_class", .type = WA_OPT_STRING,
     .example = "STANDARD_IA", .reloadable = true,
     .doc = "Storage class of new objects. Without it, the bucket's default."},
    {.section = "repository", .key = "s3_sse", .type = WA_OPT_ENUM, .fallback = "none",
     .limits = "none|AES256|aws:kms", .reloadable = true,
     .doc = "Encryption at rest that the service is asked for."},
    {.section = "repository", .key = "s3_sse_kms_key_id", .type = WA_OPT_STRING,
     .reloadable = true, .example = "alias/walagent",
     .doc = "The key for s3_sse = aws:kms. Without it, the account's default."},
    {.section = "repository", .key = "encryption_recipients_file", .type = WA_OPT_PATH,
     .example = "/etc/walagent/recipients.txt",
     .doc = "age public keys, one a line: new objects are encrypted to them. Without it, nothing "
            "is encrypted."},
    {.section = "repository", .key = "encryption_identity_file", .type = WA_OPT_PATH,
     .example = "/etc/walagent/identity.txt",
     .doc = "age secret key that reads what is encrypted. A host that only archives needs none."},

    {.section = "archive", .key = "tail_interval", .type = WA_OPT_DURATION, .fallback = "1s",
     .limits = "10ms..1h", .reloadable = true,
     .doc = "The longest that received WAL waits before it is durable in the repository."},
    {.section = "archive", .key = "acknowledge", .type = WA_OPT_ENUM, .fallback = "repository",
     .limits = "repository|spool",
     .doc = "Where WAL must be durable before it is confirmed to PostgreSQL: in the repository, or "
            "in the spool on this machine's disk."},
    {.section = "archive", .key = "spool_max", .type = WA_OPT_SIZE, .fallback = "10GiB",
     .limits = "1MiB..", .reloadable = true,
     .doc = "The most disk space that the spool takes. When it is full the agent stops reading, "
            "and PostgreSQL keeps the WAL."},
    {.section = "archive", .key = "compression_level", .type = WA_OPT_INT, .fallback = "3",
     .limits = "1..19", .reloadable = true, .doc = "zstd level for WAL."},
    {.section = "archive", .key = "get_timeout", .type = WA_OPT_DURATION, .fallback = "3s",
     .limits = "0..1h", .reloadable = true,
     .doc = "archive-get in a standby: how long a failing look-up is retried before exit 4."},
    {.section = "archive", .key = "pitr_timeout", .type = WA_OPT_DURATION, .fallback = "10min",
     .limits = "0..7d", .reloadable = true,
     .doc = "archive-get in point-in-time recovery: how long a failing look-up is retried before "
            "exit 254, which stops the recovery."},
    {.section = "archive", .key = "prefetch_max", .type = WA_OPT_SIZE, .fallback = "256MiB",
     .limits = "0..", .reloadable = true,
     .doc = "The most WAL that archive-get fetches ahead. 0 turns it off."},
    {.section = "archive", .key = "on_damage", .type = WA_OPT_ENUM, .fallback = "archive",
     .limits = "archive|stop", .reloadable = true,
     .doc = "What to do with WAL that fails its checks but that PostgreSQL sends identically "
            "twice: archive it, marked and with an alarm, or stop."},

    {.section = "backup", .key = "jobs", .type = WA_OPT_INT, .fallback = "0",
     .limits = "0..1024", .reloadable = true,
     .doc = "Parallel workers. 0: as many as there are processors."},
    {.section = "backup", .key = "compression_level", .type = WA_OPT_INT, .fallback = "3",
     .limits = "1..19", .reloadable = true, .doc = "zstd level for base backups."},
    {.section = "backup", .key = "rate_limit", .type = WA_OPT_SIZE, .fallback = "0",
     .limits = "0..", .reloadable = true,
     .doc = "The most bytes that a backup reads per second: over the protocol at least 32 KiB, "
            "and never more than 1 GiB. 0: no limit."},
    {.section = "backup", .key = "upload_rate_limit", .type = WA_OPT_SIZE, .fallback = "0",
     .limits = "0..", .reloadable = true,
     .doc = "The most bytes, compressed, that a backup puts into the repository and its mirrors "
            "per second, all copies counted: with one mirror each gets half of it. They go out in "
            "parts of some MiB: this is the mean. What a mirror lacks of the backup that an "
            "incremental one builds on is copied without a limit. 0: no limit."},

    {.section = "retention", .key = "keep_full", .type = WA_OPT_INT, .fallback = "2",
     .limits = "0..100000", .reloadable = true,
     .doc = "How many of the newest full backups to keep, with what depends on them."},
    {.section = "retention", .key = "keep_within", .type = WA_OPT_DURATION, .fallback = "7d",
     .limits = "0..", .reloadable = true,
     .doc = "Every point in time of this long a past stays reachable."},
    {.section = "retention", .key = "keep_daily", .type = WA_OPT_INT, .fallback = "0",
     .limits = "0..100000", .reloadable = true,
     .doc = "For how many days to keep the day's last backup."},
    {.section = "retention", .key = "keep_weekly", .type = WA_OPT_INT, .fallback = "0",
     .limits = "0..100000", .reloadable = true,
     .doc = "For how many weeks to keep the week's last backup."},
    {.section = "retention", .key = "keep_monthly", .type = WA_OPT_INT, .fallback = "0",
     .limits = "0..100000", .reloadable = true,
     .doc = "For how many months to keep the month's last backup."},

    {.section = "agent", .key = "state_dir", .type = WA_OPT_PATH,
     .fallback = "/var/lib/walagent/state",
     .doc = "The agent's own files: spool, positions, locks."},
    {.section = "agent", .key = "socket", .type = WA_OPT_PATH, .example = "/run/walagent/main.sock",
     .doc = "The socket on which the agent serves the hooks. Without it, "
            "/run/walagent/NAME.sock, where NAME is the cluster's."},
    {.section = "agent", .key = "listen", .type = WA_OPT_STRING, .fallback = "127.0.0.1:9877",
     .doc = "Address and port of the HTTP server. Empty turns it off."},
    {.section = "agent", .key = "log_level", .type = WA_OPT_ENUM, .fallback = "info",
     .limits = "debug|info|notice|warning|error", .reloadable = true,
     .doc = "The least important lines that are logged."},
    {.section = "agent", .key = "log_format", .type = WA_OPT_ENUM, .fallback = "text",
     .limits = "text|logfmt|json", .reloadable = true, .doc = "How log lines look."},
    {.section = NULL},
};
/* clang-format on */
