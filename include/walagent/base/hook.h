/*
 * walagent/base/hook.h - what the hooks' front (libc only) and the full program must agree on.
 *
 * Modes of archive-get: the base name of the target RECOVERYXLOG or RECOVERYHISTORY is server
 * recovery (standby.signal in the data directory: STANDBY; else RECOVERY); anything else is RAW
 * (pg_rewind, a person). Exit codes: INTERFACE.md. In server recovery an exit code from 1 to 125
 * means "not there" to PostgreSQL, which in point-in-time recovery ends recovery and opens the
 * server read-write: so there every failure but a positive "not in the archive" is 254. A standby
 * gets 4 and asks again.
 */
#ifndef WALAGENT_BASE_HOOK_H
#define WALAGENT_BASE_HOOK_H

#include "walagent/base/config.h"
#include "walagent/base/error.h"
#include "walagent/base/str.h"

typedef enum wa_get_mode { WA_GET_RAW, WA_GET_STANDBY, WA_GET_RECOVERY } wa_get_mode;
#define WA_EXIT_RECOVERY_FAILED 254

wa_get_mode wa_get_mode_of(const char *data_dir, const char *target);
const char *wa_get_mode_name(wa_get_mode mode); /* "raw", "standby", "recovery" */
/* Of archive-get. OK 0, NOT_FOUND 1; else RECOVERY 254, STANDBY 4 (INVALID too: the server goes on
 * asking), RAW as wa_exit_code. */
int wa_get_exit_code(wa_get_mode mode, wa_status status);
/* Of every other command: OK 0, INVALID and UNSUPPORTED 2, UNREACHABLE and CORRUPT 3, UNAVAILABLE
 * 4, CONFLICT 5, else 1. */
int wa_exit_code(wa_status status);
/* [agent] socket, or /run/walagent/<name>.sock. A new string. */
char *wa_hook_socket_path(const wa_config *config);

/*
 * Below PGDATA, in a directory that PostgreSQL's own tools leave alone (pgsql_tmp...):
 *   pgsql_tmp_socket       the prefetcher of this recovery listens here; takes "taken" NAME, and
 *                          "want" NAME, which it answers with "ok" when the segment is there, or
 *                          with "no" when it will not be
 *   pgsql_tmp_<SEG24>      a segment that it has fetched: to be renamed. Belongs to this recovery
 *                          only while the prefetcher answers.
 *   pgsql_tmp_failed       a standby's look-up failed: "<Unix ms until which it counts>\n<message>"
 *   pgsql_tmp_served       (wal/get)
 *   pgsql_tmp_push_<hash>  archive-push's helper listens here: an agent for this server's backlog,
 *                          with the configuration of that hash
 * In PGDATA itself, written by gate: walagent.promoting, "<Unix ms at which it expires>\n".
 */
#define WA_HOOK_DIR "pgsql_tmp_walagent"
#define WA_HOOK_FAILURE_MS 10000
char *wa_hook_prefetched_path(const char *data_dir, const char *name);
char *wa_hook_prefetch_socket(const char *data_dir);
/* Tell the prefetcher that a segment was asked for and served. False: none runs. Doesn't wait. */
bool wa_hook_prefetch_tell(const char *data_dir, const char *name);
/* Where a helper with exactly this configuration listens; NULL when `path` (absolute, resolved) is
 * no file of the pg_wal below data_dir. A new string. */
char *wa_hook_push_socket(const wa_config *config, const char *data_dir, const char *path);
/* A failing look-up of a standby counts for 10 s. Best effort: without the memory the next call
 * finds out by itself. */
void wa_hook_remember_failure(const char *data_dir, const char *message);
void wa_hook_forget_failure(const char *data_dir);
bool wa_hook_failed_lately(const char *data_dir, char *message, size_t size);
/* While gate promotes this standby archive-get retries until then, and then exits 254. */
wa_status wa_hook_promoting_begin(const char *data_dir, uint64_t ms, wa_error *err) WA_MUST_CHECK;
void wa_hook_promoting_end(const char *data_dir);
bool wa_hook_promoting(const char *data_dir, uint64_t *ret_left_ms);

/*
 * Requests to the agent, and its answers:
 *   "archive-push" PATH                          "ok" WARNING
 *   "archive-get" MODE PGDATA NAME TARGET        "ok" NOTE      (TARGET: the client renames it)
 *   "prefetch-hint" MODE PGDATA NAME             "ok"
 *   "status"                                     "ok" JSON
 *   anything that fails                          "error" STATUS MESSAGE HINT
 * ret_fields: the answer without its "ok". *ret_answered: an error comes from the agent, not from
 * the way to it.
 */
wa_status wa_hook_call(const char *socket_path, const wa_strv *request, int timeout_ms,
                       bool *ret_answered, wa_strv *ret_fields, wa_error *err) WA_MUST_CHECK;

#endif
