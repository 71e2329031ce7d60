/*
 * shipper_internal.h - what the tail and the segments thread have in common.
 */
#ifndef WALAGENT_SHIPPER_INTERNAL_H
#define WALAGENT_SHIPPER_INTERNAL_H

#include "streamer_internal.h"

/* After a failure: shows it, waits (the backoff doubles), and says whether to try again. False
 * when the threads are to end, or the flow is not to be shipped any more. */
bool wa_shipper_pause_locked(wa_streamer *s, const wa_error *err, uint64_t *backoff_ms);
/* The archive holds other bytes than ours (or another writer has taken over: fenced): nothing more
 * is shipped or acknowledged, the session ends, a person is told. */
void wa_shipper_contradiction(wa_streamer *s, wa_error *err, bool fenced);
/* Are these the bytes of the archive's whole segment? CORRUPT when they differ. */
wa_status wa_shipper_compare_whole(wa_streamer *s, const wa_branch *branch, wa_segno segno,
                                   const void *data, uint64_t offset, size_t len,
                                   wa_error *err) WA_MUST_CHECK;

#endif
