/*
 * walagent/wal/prefetch.h - fetch the segments that a server in recovery will ask for next.
 *
 * One prefetcher per data directory: a thread of the agent, or a process that archive-get leaves
 * behind. It listens on a socket below PGDATA (base/hook.h): what it has put there belongs to this
 * recovery exactly as long as it answers. Files appear by rename, whole and verified; only whole
 * segments of the chain, never the one that holds a fork, never an unfinished one. A segment that
 * isn't there yet is no news. How many: three, more when the server replays faster than one can be
 * fetched, and twice as many whenever it had to wait for one (a call that asks for a segment on its
 * way is answered when it is there), within max_bytes.
 * Every chain_ms it looks whether the chain is still the same: what it has fetched along another
 * one goes at once, and everything goes when the archive doesn't tell for five times as long.
 * It ends, and removes everything, when nothing was asked for in idle_ms, recovery is over (no
 * signal file), the restore's pinned chain changed, another socket is in its place (the data
 * directory was made anew: then it removes nothing), or it is cancelled.
 * What lies ready is sent to the disk meanwhile: the server fsyncs it before it reads it. As long
 * as enough of it lies ready (two, and half of what was doubled), no more are fetched at a time
 * than keep up with the replay, and none is begun in the quarter of a replay, at most 20 ms, in
 * which the server takes one in. What it replayed while this ran leaves the page cache, but for the
 * last four segments of a timeline.
 *
 * Threads: run() blocks in one and has `workers` of its own.
 */
#ifndef WALAGENT_WAL_PREFETCH_H
#define WALAGENT_WAL_PREFETCH_H

#include "walagent/wal/get.h"

#define WA_PREFETCH_IDLE_MS 60000
#define WA_PREFETCH_CHAIN_MS 1000

typedef struct wa_prefetch_options {
    wa_repo *repo; /* loaded */
    const char *data_dir;
    wa_get_mode mode;  /* not RAW */
    const char *after; /* the segment served last */
    uint64_t max_bytes;
    uint64_t idle_ms;
    uint64_t chain_ms;
    size_t workers;
    wa_cancel *cancel;
} wa_prefetch_options;

/* OK at its end, also when another prefetcher serves the directory. */
wa_status wa_prefetch_run(const wa_prefetch_options *options, wa_error *err) WA_MUST_CHECK;
/* How many: some that wait for a distant store; of a directory, which is there at once, no more
 * than can run (they would only take the processor from the calls and from the replay). */
size_t wa_prefetch_workers(wa_repo *repo);

#endif
