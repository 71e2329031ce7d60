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
/* Has another writer taken over? CONFLICT: it sealed our epoch in this segment or behind it, or has
 * a chunk there. One listing, and a read only where the last chunk of our epoch may be a seal.
 *
 * FORMATS 11 needs it: a whole segment doesn't collide with a seal's name, so this is asked when
 * the segment is there, before it counts as durable. Who seals looks for whole segments after the
 * seal is there (wa_tip_seal). Each writes first and looks then, so of two at the same time at
 * least one sees the other: either what we acknowledge lies before the seal that the next writer
 * goes on from, or we don't acknowledge it. The bytes may stay: equal ones are history whoever
 * wrote them, and what lies past a fork is not accepted.
 *
 * It is asked before a segment is put, too, which spares the archive what a writer has to say that
 * was fenced while it slept; the look behind the segment before says the same when it was a moment
 * ago (the grace period, as for chunks). */
wa_status wa_shipper_check_not_sealed(wa_streamer *s, const wa_branch *branch, uint32_t epoch,
                                      wa_segno segno, wa_error *err) WA_MUST_CHECK;
/* Has a person settled that the archive has other content under this segment's name than these
 * bytes? Then it stays as it is, and streaming goes on behind it. */
wa_status wa_shipper_is_settled(wa_streamer *s, const wa_branch *branch, wa_segno segno,
                                const char *xxh3, bool *ret, wa_error *err) WA_MUST_CHECK;
/* Bytes of a segment that the spool holds. IO, too, when they aren't there any more. */
wa_status wa_shipper_read_spool(wa_streamer *s, const wa_branch *branch, wa_lsn from, void *out,
                                size_t len, wa_error *err) WA_MUST_CHECK;
/* Does the spool hold these bytes at `from`? */
wa_status wa_shipper_is_spooled(wa_streamer *s, const wa_branch *branch, wa_lsn from,
                                const uint8_t *bytes, size_t len, bool *ret,
                                wa_error *err) WA_MUST_CHECK;
/* Are the spool's bytes [from, to) those of the archive's whole segment? CORRUPT when they differ.
 */
wa_status wa_shipper_compare_whole(wa_streamer *s, const wa_branch *branch, wa_lsn from, wa_lsn to,
                                   wa_error *err) WA_MUST_CHECK;

#endif
