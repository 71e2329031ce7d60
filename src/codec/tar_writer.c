/*
 * codec/tar_writer.c - a tar stream into a sink, through libarchive.
 *
 * Format: ustar; a pax header (type 'x') before entries whose name, link or size don't fit; two
 * zero blocks at the end and no padding to a record, so that offsets are what was written.
 */
#include "walagent/codec/tar.h"

#include "tar_internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct wa_tar_writer {
    wa_sink *to;
    struct archive *plain, *binary;
    struct archive *archive; /* the one that the current entry goes through */
    struct archive_entry *entry;
    uint64_t offset;
    uint64_t left; /* of the entry's data */
    bool closed;   /* failed, finished or abandoned: libarchive's last words are dropped */
    wa_status sink_status;
    wa_error sink_error;
};

static la_ssize_t
on_write(struct archive *archive, void *arg, const void *data, size_t len)
{
    wa_tar_writer *w = arg;

    if (w->closed)
        return (la_ssize_t)len;
    w->sink_status = wa_sink_write(w->to, data, len, &w->sink_error);
    if (w->sink_status != WA_OK) {
        archive_set_error(archive, EIO, "could not write");
        return -1;
    }
    w->offset += len;
    return (la_ssize_t)len;
}

static wa_status
writer_failure(wa_tar_writer *w, wa_error *err)
{
    const char *why = archive_error_string(w->archive);

    w->closed = true;
    if (w->sink_status != WA_OK) {
        *err = w->sink_error;
        return w->sink_status;
    }
    return wa_error_set(err, WA_FAILED, "could not write tar archive: %s",
                        why ? why : "unknown reason");
}

static wa_status
open_archive(wa_tar_writer *w, struct archive **ret, const char *charset, wa_error *err)
{
    struct archive *a = archive_write_new();

    WA_ASSERT(a);
    w->archive = *ret = a;
    if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
        (charset &&
         archive_write_set_format_option(a, "pax", "hdrcharset", charset) != ARCHIVE_OK) ||
        archive_write_set_bytes_per_block(a, 0) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open(a, w, NULL, on_write, NULL) != ARCHIVE_OK)
        return writer_failure(w, err);
    return WA_OK;
}

wa_status
wa_tar_writer_new(wa_sink *to, wa_tar_writer **ret, wa_error *err)
{
    WA_TRY(wa_libarchive_load(err));
    WA_CLEANUP(wa_tar_writer_freep) wa_tar_writer *w = wa_calloc(1, sizeof *w);

    w->to = to;
    w->entry = archive_entry_new();
    WA_ASSERT(w->entry);
    WA_TRY(open_archive(w, &w->binary, "BINARY", err));
    WA_TRY(open_archive(w, &w->plain, NULL, err));
    *ret = WA_TAKE(w);
    return WA_OK;
}

void
wa_tar_writer_free(wa_tar_writer *w)
{
    if (!w)
        return;
    w->closed = true;
    archive_write_free(w->plain);
    archive_write_free(w->binary);
    archive_entry_free(w->entry);
    free(w);
}

static bool
is_ascii(const char *s)
{
    for (; s && *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* Pads the data, so that the other writer may go on. */
static wa_status
finish_entry(wa_tar_writer *w, wa_error *err)
{
    return archive_write_finish_entry(w->archive) == ARCHIVE_OK ? WA_OK : writer_failure(w, err);
}

static wa_status
check_between_entries(wa_tar_writer *w, wa_error *err)
{
    if (w->closed)
        return wa_error_set(err, WA_FAILED,
                            "the tar archive was finished, or writing it has failed before");
    if (w->left > 0) {
        w->closed = true;
        return wa_error_set(err, WA_FAILED, "tar entry \"%s\" lacks %" PRIu64 " bytes of its data",
                            archive_entry_pathname(w->entry), w->left);
    }
    return WA_OK;
}

wa_status
wa_tar_write_entry(wa_tar_writer *w, const wa_tar_entry *entry, wa_error *err)
{
    static const mode_t types[] = {AE_IFREG, AE_IFDIR, AE_IFLNK};
    struct archive_entry *e = w->entry;

    WA_ASSERT((size_t)entry->type < WA_ARRAY_SIZE(types) && entry->path);
    WA_ASSERT((entry->type == WA_TAR_SYMLINK) == (entry->link != NULL));
    WA_TRY(check_between_entries(w, err));
    w->left = entry->type == WA_TAR_FILE ? entry->size : 0;
    w->archive = is_ascii(entry->path) && is_ascii(entry->link) ? w->plain : w->binary;
    archive_entry_clear(e);
    archive_entry_set_pathname(e, entry->path);
    archive_entry_set_filetype(e, types[entry->type]);
    archive_entry_set_perm(e, entry->mode & 07777);
    archive_entry_set_mtime(e, entry->mtime, 0);
    archive_entry_set_size(e, (la_int64_t)w->left);
    if (entry->link)
        archive_entry_set_symlink(e, entry->link);
    if (archive_write_header(w->archive, e) != ARCHIVE_OK)
        return writer_failure(w, err);
    return w->left == 0 ? finish_entry(w, err) : WA_OK;
}

wa_status
wa_tar_write_data(wa_tar_writer *w, const void *data, size_t len, wa_error *err)
{
    const char *from = data;

    if (w->closed)
        return check_between_entries(w, err);
    if (len > w->left) {
        w->closed = true;
        return wa_error_set(err, WA_FAILED, "tar entry \"%s\" gets more data than its size",
                            archive_entry_pathname(w->entry));
    }
    if (len == 0)
        return WA_OK;
    while (len > 0) {
        la_ssize_t done = archive_write_data(w->archive, from, len);
        if (done <= 0)
            return writer_failure(w, err);
        from += done;
        len -= (size_t)done;
        w->left -= (uint64_t)done;
    }
    return w->left == 0 ? finish_entry(w, err) : WA_OK;
}

uint64_t
wa_tar_writer_offset(const wa_tar_writer *w)
{
    return w->offset;
}

wa_status
wa_tar_writer_finish(wa_tar_writer *w, wa_error *err)
{
    WA_TRY(check_between_entries(w, err));
    w->archive = w->plain;
    if (archive_write_close(w->plain) != ARCHIVE_OK)
        return writer_failure(w, err);
    w->closed = true;
    return WA_OK;
}
