/*
 * support/wal_builder.h - build WAL for tests: pages and records with right checksums.
 *
 *     wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 0x3000000});
 *     wal_add_commit(b, 742, time);
 *     wal_add_restore_point(b, "before-import", time);
 *     wal_add_switch(b);
 *     ... wal_bytes(b), wal_size(b) ...
 *     wal_builder_free(b);
 *
 * Bytes begin at options.start; wal_size() ends behind the last record (or is whatever was padded).
 * Every wal_add_... returns the LSN at which the record begins. Page headers are written when the
 * first byte of a page is.
 */
#ifndef WALAGENT_TESTS_WAL_BUILDER_H
#define WALAGENT_TESTS_WAL_BUILDER_H

#include "walagent/base/time.h"
#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_MAGIC_13 0xD106u
#define WAL_MAGIC_14 0xD10Du
#define WAL_MAGIC_15 0xD110u
#define WAL_MAGIC_16 0xD113u
#define WAL_MAGIC_17 0xD116u
#define WAL_MAGIC_18 0xD118u

/* Zero means the value in brackets. */
typedef struct wal_builder_options {
    uint16_t magic;             /* [WAL_MAGIC_15] */
    uint64_t segment_size;      /* [1 MiB] */
    uint64_t system_identifier; /* [7000000000000000001] */
    wa_tli tli;                 /* [1] */
    wa_lsn start;               /* a page's start [the first segment's, 0x100000 with 1 MiB] */
    wa_lsn prev;                /* what the first record links to [start - 0x28] */
} wal_builder_options;

typedef struct wal_builder wal_builder;
wal_builder *wal_builder_new(const wal_builder_options *options); /* NULL: all defaults */
void wal_builder_free(wal_builder *b);
const uint8_t *wal_bytes(const wal_builder *b);
uint8_t *wal_bytes_mutable(wal_builder *b);
size_t wal_size(const wal_builder *b);
wa_lsn wal_position(const wal_builder *b); /* start + size: end of the last record, aligned to 8 */
wa_lsn wal_prev(const wal_builder *b);     /* where the last record begins */
/* Pages from now on carry another timeline (promotion). */
void wal_set_tli(wal_builder *b, wa_tli tli);

/* Any record; body is everything behind the 24-byte header. */
wa_lsn wal_add_raw(wal_builder *b, uint8_t rmid, uint8_t info, uint32_t xid, const void *body,
                   size_t len);
/* A record with main data only. */
wa_lsn wal_add(wal_builder *b, uint8_t rmid, uint8_t info, uint32_t xid, const void *main_data,
               size_t len);
/* A record of tot_len bytes with pseudo-random content (at least 30). */
wa_lsn wal_add_noise(wal_builder *b, uint32_t xid, uint32_t tot_len);
wa_lsn wal_add_commit(wal_builder *b, uint32_t xid, wa_time time);
wa_lsn wal_add_abort(wal_builder *b, uint32_t xid, wa_time time);
wa_lsn wal_add_commit_prepared(wal_builder *b, uint32_t prepared_xid, wa_time time);
wa_lsn wal_add_restore_point(wal_builder *b, const char *name, wa_time time);
wa_lsn wal_add_checkpoint(wal_builder *b, bool shutdown, wa_lsn redo, wa_tli tli, wa_tli prev_tli,
                          wa_time time);
wa_lsn wal_add_end_of_recovery(wal_builder *b, wa_tli tli, wa_tli prev_tli, wa_time time);
/* The switch record, and zeroes up to the segment's end. */
wa_lsn wal_add_switch(wal_builder *b);
/* What a crash in the middle of a record leaves: `written` bytes of a record of tot_len (they must
 * reach the page's end: written is rounded up to it), then on the next page an
 * overwrite-contrecord. Returns the void record's LSN; wal_prev() is the overwrite's. */
wa_lsn wal_add_void_record(wal_builder *b, uint32_t tot_len, uint32_t written);
/* The same, but the overwrite-contrecord names another record. */
wa_lsn wal_add_void_record_as(wal_builder *b, uint32_t tot_len, uint32_t written, wa_lsn claimed);
/* Noise records until the position is at least lsn (the last one may pass it). */
void wal_fill_until(wal_builder *b, wa_lsn lsn);
/* Noise that ends exactly at the current segment's end. */
void wal_fill_segment(wal_builder *b);
/* Zero bytes up to the current segment's end: an unfinished segment as a server pads it. */
void wal_pad_segment(wal_builder *b);

#endif
