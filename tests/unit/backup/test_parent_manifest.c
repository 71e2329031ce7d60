/*
 * test_parent_manifest.c - the parent's manifest as a file, and a disk that doesn't keep it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backup_fixture.h"

#include "walagent/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LABEL "20261123T021400Z-F-1a2b"

/* libc's function is replaced in this program: write() took the bytes, and the disk refused them.
 */
static bool disk_refuses;
static size_t synced_bytes;

int
fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        synced_bytes += (size_t)st.st_size;
    if (disk_refuses) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

typedef struct fixture {
    wa_repo *repo;
    char dir[64];
    wa_buf manifest;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    uint64_t stored = 0;
    snprintf(f->dir, sizeof f->dir, "/tmp/wa-manifest-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(setenv("TMPDIR", f->dir, 1), 0); /* the repository's scratch directory */
    OK(make_repo(&f->repo, &f->err));
    f->manifest = (wa_buf)WA_BUF_INIT(4u << 20);
    for (int i = 0; i < 20000; i++)
        wa_buf_printf(&f->manifest, "{ \"Path\": \"base/5/%d\" },\n", i);
    WA_CLEANUP(wa_sink_freep) wa_sink *object = NULL;
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    OK(wa_backup_begin_manifest(f->repo, LABEL, 1, &object, &w, &f->err));
    OK(wa_container_write(w, f->manifest.data, f->manifest.len, &f->err));
    OK(wa_backup_commit_manifest(LABEL, object, w, &stored, &f->err));
    disk_refuses = false;
    synced_bytes = 0;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    disk_refuses = false;
    OK(wa_remove_tree(f->dir, &f->err));
    wa_repo_free(f->repo);
    wa_buf_done(&f->manifest);
    wa_freep(&f);
    return 0;
}

static size_t
count_files(const fixture *f)
{
    size_t count = 0;
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void
the_file_has_the_manifests_bytes_on_the_disk(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *path = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(4u << 20);
    OK(wa_backup_parent_manifest(f->repo, LABEL, &path, &f->err));
    assert_int_equal(synced_bytes, f->manifest.len);
    OK(wa_file_read(path, 4u << 20, &got, &f->err));
    assert_int_equal(got.len, f->manifest.len);
    assert_memory_equal(got.data, f->manifest.data, got.len);
    assert_int_equal(count_files(f), 1);
}

static void
what_the_disk_refused_is_not_taken_for_a_manifest(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *path = NULL;
    disk_refuses = true;
    assert_int_equal(wa_backup_parent_manifest(f->repo, LABEL, &path, &f->err), WA_IO);
    assert_non_null(strstr(f->err.message, "could not fsync file"));
    assert_null(path);
    assert_int_equal(count_files(f), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_file_has_the_manifests_bytes_on_the_disk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_disk_refused_is_not_taken_for_a_manifest, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
