/*
 * push_ahead_internal.h - archive what archive_command will ask for next.
 *
 * Rules:
 *   (1) Segments become durable in the order of their names, without a gap behind the one that was
 *       answered last: reading, checking and compressing run side by side, writing doesn't. So the
 *       newest segment of the archive never stands behind a hole that a crash would leave.
 *   (2) Only what archive_status says is ready, of the same timeline, and only while nothing older
 *       is ready too (a file pushed by hand is no beginning).
 *   (3) What the streamer is about to ship is left to it. What lies before its beginning may have
 *       been shipped in an earlier life: the archive is asked first.
 *   (4) Any failure ends it; the next archive-push that succeeds begins anew.
 * Bounded: WA_PUSH_AHEAD_SEGMENTS, WA_PUSH_AHEAD_BYTES; four segments are read and compressed at a
 * time, each with a frame in memory (all of one that is out of the ordinary), or two of a later
 * timeline as a whole.
 * Threads: all calls from any, free from one. Ownership: borrows pool, cancel and callbacks.
 */
#ifndef WALAGENT_PUSH_AHEAD_INTERNAL_H
#define WALAGENT_PUSH_AHEAD_INTERNAL_H

#include "walagent/agent/hook_server.h"
#include "walagent/base/thread.h"
#include "walagent/wal/push.h"

#define WA_PUSH_AHEAD_SEGMENTS 16
#define WA_PUSH_AHEAD_BYTES (256u * 1024 * 1024)

typedef struct wa_push_ahead wa_push_ahead;
typedef struct wa_push_ahead_options {
    const wa_hook_server_options *hooks;
    wa_pool *pool;
    wa_cancel *cancel;
} wa_push_ahead_options;

wa_push_ahead *wa_push_ahead_new(const wa_push_ahead_options *options);
void wa_push_ahead_free(wa_push_ahead *a); /* ends what runs; NULL is fine */

/* The file was answered: go on behind it. Doesn't wait. */
void wa_push_ahead_after(wa_push_ahead *a, wa_repo *repo, const char *path, bool stop_on_damage);
/* Wait while the file is on its way; at once where it is not. */
void wa_push_ahead_join(wa_push_ahead *a, const char *path, wa_cancel *cancel);
/* Durable in this repository by what ran ahead? Then with its content's XXH3-128. */
bool wa_push_ahead_knows(wa_push_ahead *a, const wa_repo *repo, const char *name,
                         char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch);
/* And is the file still the one that was read, untouched? Then it need not be read again: what its
 * push came to. */
bool wa_push_ahead_answers(wa_push_ahead *a, const wa_repo *repo, const char *path,
                           wa_push_result *ret);

#endif
