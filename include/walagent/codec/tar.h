/*
 * walagent/codec/tar.h - tar streams through libarchive: reading what BASE_BACKUP sends, writing
 * packs.
 *
 * Reader: pulls from a callback; entries in order; the data of an entry that is not read is
 * skipped. PostgreSQL's archives may end without the two zero blocks. Writer: pax restricted (plain
 * ustar wherever that suffices), to a sink, unbuffered, so that wa_tar_writer_offset() tells where
 * the next file's data begins. GNU tar reads it.
 */
#ifndef WALAGENT_CODEC_TAR_H
#define WALAGENT_CODEC_TAR_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/codec/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum wa_tar_type { WA_TAR_FILE, WA_TAR_DIRECTORY, WA_TAR_SYMLINK } wa_tar_type;
typedef struct wa_tar_entry {
    const char *path; /* without trailing slash; borrowed until the next entry */
    const char *link; /* symlink target, else NULL */
    wa_tar_type type;
    uint64_t size;
    mode_t mode;
    int64_t mtime; /* Unix seconds */
} wa_tar_entry;

/* Sets *ret_data and *ret_len to the next piece, len 0 at the end; the piece stays valid until the
 * next call. */
typedef wa_status (*wa_tar_pull)(void *arg, const void **ret_data, size_t *ret_len, wa_error *err);
typedef struct wa_tar_reader wa_tar_reader;
wa_status wa_tar_reader_new(wa_tar_pull pull, void *arg, wa_tar_reader **ret,
                            wa_error *err) WA_MUST_CHECK;
/* ret_more false: the archive ended in order. CORRUPT on a malformed or truncated one; the pull's
 * own error as it is. */
wa_status wa_tar_next(wa_tar_reader *r, wa_tar_entry *ret, bool *ret_more,
                      wa_error *err) WA_MUST_CHECK;
/* The next piece of the entry's data, zero-copy; len 0 at its end. */
wa_status wa_tar_data(wa_tar_reader *r, const void **ret_data, size_t *ret_len,
                      wa_error *err) WA_MUST_CHECK;
void wa_tar_reader_free(wa_tar_reader *r);
WA_DEFINE_CLEANUP(wa_tar_reader, wa_tar_reader_free)

typedef struct wa_tar_writer wa_tar_writer;
wa_status wa_tar_writer_new(wa_sink *to, wa_tar_writer **ret,
                            wa_error *err) WA_MUST_CHECK; /* borrows to */
wa_status wa_tar_write_entry(wa_tar_writer *w, const wa_tar_entry *entry,
                             wa_error *err) WA_MUST_CHECK;
wa_status wa_tar_write_data(wa_tar_writer *w, const void *data, size_t len, wa_error *err)
    WA_MUST_CHECK; /* exactly entry->size bytes in all, else the next call fails */
uint64_t wa_tar_writer_offset(const wa_tar_writer *w); /* bytes of tar written so far */
wa_status wa_tar_writer_finish(wa_tar_writer *w,
                               wa_error *err) WA_MUST_CHECK; /* does not finish the sink */
void wa_tar_writer_free(wa_tar_writer *w);
WA_DEFINE_CLEANUP(wa_tar_writer, wa_tar_writer_free)

#endif
