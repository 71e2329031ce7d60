/*
 * walagent/pg/manifest.h - PostgreSQL's backup manifest, versions 1 and 2, parsed as a stream.
 *
 * A million files cost 1 MB: each element is parsed alone. The manifest's own SHA-256 is checked; a
 * mismatch, a truncated manifest, or a path that leaves the data directory (absolute, "..") is
 * CORRUPT; another version than 1 or 2 is UNSUPPORTED. The callback sees files before the
 * manifest's checksum was checked: only wa_manifest_end's success vouches for them. Source:
 * PostgreSQL documentation, "Backup Manifest Format".
 */
#ifndef WALAGENT_PG_MANIFEST_H
#define WALAGENT_PG_MANIFEST_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wa_manifest_checksum {
    WA_MANIFEST_NONE,
    WA_MANIFEST_CRC32C,
    WA_MANIFEST_SHA224,
    WA_MANIFEST_SHA256,
    WA_MANIFEST_SHA384,
    WA_MANIFEST_SHA512
} wa_manifest_checksum;
typedef struct wa_manifest_file {
    const char *path; /* raw bytes (Encoded-Path decoded); borrowed during the call */
    uint64_t size;
    const char *mtime; /* "2026-11-23 02:14:00 GMT" */
    wa_manifest_checksum algorithm;
    uint8_t checksum[64];
    size_t checksum_len; /* 0 with WA_MANIFEST_NONE */
} wa_manifest_file;
typedef struct wa_manifest_range {
    wa_tli tli;
    wa_lsn start, end;
} wa_manifest_range;
typedef struct wa_manifest_info {
    int version;
    uint64_t system_identifier; /* version 2; else 0 */
    uint64_t files, bytes;
    size_t range_count;
    wa_manifest_range ranges[64];
} wa_manifest_info;

typedef wa_status (*wa_manifest_file_fn)(void *arg, const wa_manifest_file *file, wa_error *err);
typedef struct wa_manifest_parser wa_manifest_parser;
wa_manifest_parser *wa_manifest_parser_new(wa_manifest_file_fn fn, void *arg);
wa_status wa_manifest_feed(wa_manifest_parser *p, const void *data, size_t len,
                           wa_error *err) WA_MUST_CHECK;
wa_status wa_manifest_end(wa_manifest_parser *p, wa_manifest_info *ret,
                          wa_error *err) WA_MUST_CHECK;
void wa_manifest_parser_free(wa_manifest_parser *p);
WA_DEFINE_CLEANUP(wa_manifest_parser, wa_manifest_parser_free)

/* Writing one in PostgreSQL's format (local backups). Text is appended to `out`, which the caller
 * may empty between the calls. A path that is no UTF-8 is written as Encoded-Path. */
typedef struct wa_manifest_writer wa_manifest_writer;
struct wa_buf;
wa_manifest_writer *wa_manifest_writer_new(int version, uint64_t system_identifier);
wa_status wa_manifest_write_file(wa_manifest_writer *w, const wa_manifest_file *file,
                                 struct wa_buf *out, wa_error *err) WA_MUST_CHECK;
wa_status wa_manifest_write_end(wa_manifest_writer *w, const wa_manifest_range *ranges,
                                size_t count, struct wa_buf *out, wa_error *err) WA_MUST_CHECK;
void wa_manifest_writer_free(wa_manifest_writer *w);
WA_DEFINE_CLEANUP(wa_manifest_writer, wa_manifest_writer_free)

/* "CRC32C", "NONE"; false for another name. */
bool wa_manifest_checksum_parse(const char *name, wa_manifest_checksum *ret);
const char *wa_manifest_checksum_name(wa_manifest_checksum algorithm);
size_t wa_manifest_checksum_size(wa_manifest_checksum algorithm); /* bytes; 0 for NONE */

/* A checksum over a file's bytes as the manifest has it (CRC32C is written little-endian). */
typedef struct wa_checksummer wa_checksummer;
wa_checksummer *wa_checksummer_new(wa_manifest_checksum algorithm);
void wa_checksummer_reset(wa_checksummer *c);
void wa_checksummer_update(wa_checksummer *c, const void *data, size_t len);
/* CRC32C only: the next `len` bytes, of which `crc` is the CRC-32C by themselves. */
void wa_checksummer_add_crc32c(wa_checksummer *c, uint32_t crc, uint64_t len);
size_t wa_checksummer_final(wa_checksummer *c, uint8_t out[static 64]); /* returns its length */
void wa_checksummer_free(wa_checksummer *c);
WA_DEFINE_CLEANUP(wa_checksummer, wa_checksummer_free)

#endif
