/*
 * walagent/audit/check.h - the end-to-end preflight: would WAL arrive, would a backup work, would a
 * restore find it?
 *
 * Each finding is one fact with a verdict; a failing step doesn't stop the ones that don't need it.
 * What can't be tried (no privilege) is said as a warning, never passed as fine. It writes one
 * small WAL record on the server and one probe object to the store, which it removes.
 */
#ifndef WALAGENT_AUDIT_CHECK_H
#define WALAGENT_AUDIT_CHECK_H

#include "walagent/base/cancel.h"
#include "walagent/repo/repo.h"

typedef enum wa_verdict { WA_VERDICT_OK, WA_VERDICT_WARNING, WA_VERDICT_FAILED } wa_verdict;

typedef struct wa_finding {
    wa_verdict verdict;
    char what[40]; /* short and stable: "repository", "slot", "wal-arrives" */
    char detail[512];
    char hint[512];
} wa_finding;

typedef struct wa_check_options {
    wa_repo *repo; /* opened, not loaded */
    const char *conninfo;
    const char *slot;
    const char *state_dir;
    uint64_t arrive_timeout_ms; /* how long the WAL record may take to be archived */
    wa_cancel *cancel;
} wa_check_options;

typedef struct wa_findings {
    wa_finding *items;
    size_t count, failed, warnings;
} wa_findings;

/* Fails only when cancelled; everything else is a finding. */
wa_status wa_check_run(const wa_check_options *options, wa_findings *ret,
                       wa_error *err) WA_MUST_CHECK;
void wa_findings_done(wa_findings *f);
const char *wa_verdict_name(wa_verdict v); /* "ok", "warning", "failed" */

#endif
