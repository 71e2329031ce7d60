/*
 * codec/tar_reader.c - entries of a tar stream, pulled from a callback, through libarchive.
 *
 * Format (ustar; 512-byte blocks): header {0 name 100, 100 mode 8, 108 uid 8, 116 gid 8, 124 size
 * 12, 136 mtime 12, 148 checksum 8, 156 type 1, 157 link 100, 257 "ustar" ...}, data padded to a
 * block, at the end two zero blocks, or nothing (PostgreSQL).
 */
#include "walagent/codec/tar.h"

#include "tar_internal.h"

#include "walagent/base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wa_tar_reader {
    struct archive *archive;
    wa_tar_pull pull;
    void *arg;
    wa_status pull_status; /* the pull's own failure, passed on as it is */
    wa_error pull_error;
    bool opened, in_entry;
    uint64_t size, done; /* of the entry's data */
    char *path, *link;
};

static la_ssize_t
on_read(struct archive *archive, void *arg, const void **ret)
{
    wa_tar_reader *r = arg;
    size_t len = 0;

    r->pull_status = r->pull(r->arg, ret, &len, &r->pull_error);
    if (r->pull_status != WA_OK) {
        archive_set_error(archive, EIO, "could not read");
        return ARCHIVE_FATAL;
    }
    return (la_ssize_t)len;
}

/* What libarchive did not accept: our callback's failure, or the archive's. */
static wa_status
reader_failure(wa_tar_reader *r, wa_error *err)
{
    const char *why = archive_error_string(r->archive);

    if (r->pull_status != WA_OK) {
        *err = r->pull_error;
        return r->pull_status;
    }
    return wa_error_set(err, WA_CORRUPT, "tar archive is not valid%s%s: %s",
                        r->path ? " after " : "", r->path ? r->path : "",
                        why ? why : "unknown reason");
}

wa_status
wa_tar_reader_new(wa_tar_pull pull, void *arg, wa_tar_reader **ret, wa_error *err)
{
    WA_TRY(wa_libarchive_load(err));
    wa_tar_reader *r = wa_calloc(1, sizeof *r);

    r->pull = pull;
    r->arg = arg;
    r->archive = archive_read_new();
    WA_ASSERT(r->archive);
    /* Empty: a stream without a single entry. */
    WA_ASSERT(archive_read_support_format_tar(r->archive) == ARCHIVE_OK);
    WA_ASSERT(archive_read_support_format_empty(r->archive) == ARCHIVE_OK);
    *ret = r;
    return WA_OK;
}

void
wa_tar_reader_free(wa_tar_reader *r)
{
    if (!r)
        return;
    archive_read_free(r->archive);
    free(r->path);
    free(r->link);
    free(r);
}

static char *
without_trailing_slash(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return wa_strndup(path, len);
}

static wa_status
take_entry(wa_tar_reader *r, struct archive_entry *entry, wa_tar_entry *ret, wa_error *err)
{
    const char *path = archive_entry_pathname(entry);
    const char *link = archive_entry_symlink(entry);
    mode_t filetype = archive_entry_filetype(entry);
    wa_tar_type type;

    if (wa_str_empty(path))
        return wa_error_set(err, WA_CORRUPT, "tar archive has an entry without a name");
    if (archive_entry_hardlink(entry))
        return wa_error_set(err, WA_CORRUPT, "tar entry \"%s\" is a hard link", path);
    if (filetype == AE_IFREG)
        type = WA_TAR_FILE;
    else if (filetype == AE_IFDIR)
        type = WA_TAR_DIRECTORY;
    else if (filetype == AE_IFLNK && link)
        type = WA_TAR_SYMLINK;
    else
        return wa_error_set(err, WA_CORRUPT,
                            "tar entry \"%s\" is no file, directory or symbolic link", path);
    int64_t size = type == WA_TAR_FILE ? archive_entry_size(entry) : 0;
    if (size < 0 || archive_entry_sparse_count(entry) > 0)
        return wa_error_set(err, WA_CORRUPT, "tar entry \"%s\" has no valid size", path);
    free(r->path);
    free(r->link);
    r->path = without_trailing_slash(path);
    r->link = type == WA_TAR_SYMLINK ? wa_strdup(link) : NULL;
    r->size = (uint64_t)size;
    r->done = 0;
    r->in_entry = true;
    *ret = (wa_tar_entry){.path = r->path,
                          .link = r->link,
                          .type = type,
                          .size = r->size,
                          .mode = archive_entry_perm(entry),
                          .mtime = archive_entry_mtime(entry)};
    return WA_OK;
}

/*
 * A warning means that something of the header was not understood, which is not good enough here.
 * Except that a pax name does not exist in this locale's character set: then its bytes are taken as
 * they are, which is what we want in any locale.
 */
static bool
only_names_unconverted(const wa_tar_reader *r)
{
    const char *why = archive_error_string(r->archive);

    return why && strstr(why, "can't be converted");
}

wa_status
wa_tar_next(wa_tar_reader *r, wa_tar_entry *ret, bool *ret_more, wa_error *err)
{
    struct archive_entry *entry;

    r->in_entry = false;
    if (!r->opened) {
        r->opened = true;
        if (archive_read_open(r->archive, r, NULL, on_read, NULL) != ARCHIVE_OK)
            return reader_failure(r, err);
    }
    int code = archive_read_next_header(r->archive, &entry);
    if (code == ARCHIVE_EOF && r->pull_status == WA_OK) {
        *ret_more = false;
        return WA_OK;
    }
    if (code != ARCHIVE_OK && !(code == ARCHIVE_WARN && only_names_unconverted(r)))
        return reader_failure(r, err);
    WA_TRY(take_entry(r, entry, ret, err));
    *ret_more = true;
    return WA_OK;
}

wa_status
wa_tar_data(wa_tar_reader *r, const void **ret_data, size_t *ret_len, wa_error *err)
{
    const void *data = NULL;
    size_t len = 0;
    la_int64_t offset = 0;

    WA_ASSERT(r->in_entry);
    while (r->done < r->size && len == 0) {
        int code = archive_read_data_block(r->archive, &data, &len, &offset);
        if (code != ARCHIVE_OK || offset < 0 || (uint64_t)offset != r->done ||
            len > r->size - r->done)
            return code == ARCHIVE_OK || code == ARCHIVE_EOF
                       ? wa_error_set(err, WA_CORRUPT, "data of tar entry \"%s\" is not complete",
                                      r->path)
                       : reader_failure(r, err);
    }
    r->done += len;
    *ret_data = data;
    *ret_len = len;
    return WA_OK;
}
