/*
 * parent_manifest.c - the parent's manifest as a file, which UPLOAD_MANIFEST wants.
 */
#include "backup_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* It is read back through another descriptor, from the page cache or, where that had to give way,
 * from the disk. A write that the disk refused after write() had returned is told by fsync of the
 * descriptor that was written, and by nothing else: a reader would see what was on the disk before.
 * When fsync says OK every byte is there, so whatever the reader gets is what was written (the
 * container's checksums were verified on the way), and the server verifies the manifest's own
 * checksum. */
static wa_status
fill(const wa_container *manifest, int fd, const char *path, wa_error *err)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_fd(fd, path);
    WA_TRY(wa_container_read_all(manifest, NULL, sink, err));
    WA_TRY(wa_sink_finish(sink, err));
    return wa_fsync(fd, path, err);
}

wa_status
wa_backup_parent_manifest(wa_repo *repo, const char *label, char **ret_path, wa_error *err)
{
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *container = NULL;
    WA_TRY(wa_backup_open_manifest(repo, label, &ranges, &container, err));
    WA_CLEANUP(wa_freep)
    char *path = wa_format("%s/walagent-manifest-XXXXXX", wa_repo_scratch_dir(repo));
    WA_CLEANUP(wa_closep) int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create a temporary file in \"%s\": %m",
                              wa_repo_scratch_dir(repo));
    wa_status status = fill(container, fd, path, err);
    if (status != WA_OK) {
        unlink(path);
        return status;
    }
    *ret_path = WA_TAKE(path);
    return WA_OK;
}
