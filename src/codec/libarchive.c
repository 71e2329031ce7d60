/*
 * libarchive.c - what we call of libarchive, which is loaded when it is first needed
 * (base/library.h).
 */
#include "tar_internal.h"

#include "walagent/base/library.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdarg.h>
#include <stdio.h>

#define FUNCTIONS(F)                                                                               \
    F(struct archive_entry *, archive_entry_clear, (struct archive_entry * e), (e))                \
    F(__LA_MODE_T, archive_entry_filetype, (struct archive_entry * e), (e))                        \
    F(void, archive_entry_free, (struct archive_entry * e), (e))                                   \
    F(const char *, archive_entry_hardlink, (struct archive_entry * e), (e))                       \
    F(time_t, archive_entry_mtime, (struct archive_entry * e), (e))                                \
    F(struct archive_entry *, archive_entry_new, (void), ())                                       \
    F(const char *, archive_entry_pathname, (struct archive_entry * e), (e))                       \
    F(__LA_MODE_T, archive_entry_perm, (struct archive_entry * e), (e))                            \
    F(void, archive_entry_set_filetype, (struct archive_entry * e, unsigned int type), (e, type))  \
    F(void, archive_entry_set_mtime, (struct archive_entry * e, time_t seconds, long ns),          \
      (e, seconds, ns))                                                                            \
    F(void, archive_entry_set_pathname, (struct archive_entry * e, const char *path), (e, path))   \
    F(void, archive_entry_set_perm, (struct archive_entry * e, __LA_MODE_T mode), (e, mode))       \
    F(void, archive_entry_set_size, (struct archive_entry * e, la_int64_t size), (e, size))        \
    F(void, archive_entry_set_symlink, (struct archive_entry * e, const char *target),             \
      (e, target))                                                                                 \
    F(la_int64_t, archive_entry_size, (struct archive_entry * e), (e))                             \
    F(int, archive_entry_sparse_count, (struct archive_entry * e), (e))                            \
    F(const char *, archive_entry_symlink, (struct archive_entry * e), (e))                        \
    F(const char *, archive_error_string, (struct archive * a), (a))                               \
    F(int, archive_read_data_block,                                                                \
      (struct archive * a, const void **data, size_t *len, la_int64_t *offset),                    \
      (a, data, len, offset))                                                                      \
    F(int, archive_read_free, (struct archive * a), (a))                                           \
    F(struct archive *, archive_read_new, (void), ())                                              \
    F(int, archive_read_next_header, (struct archive * a, struct archive_entry * *entry),          \
      (a, entry))                                                                                  \
    F(int, archive_read_open,                                                                      \
      (struct archive * a, void *arg, archive_open_callback *on_open,                              \
       archive_read_callback *on_read, archive_close_callback *on_close),                          \
      (a, arg, on_open, on_read, on_close))                                                        \
    F(int, archive_read_support_format_empty, (struct archive * a), (a))                           \
    F(int, archive_read_support_format_tar, (struct archive * a), (a))                             \
    F(int, archive_write_close, (struct archive * a), (a))                                         \
    F(la_ssize_t, archive_write_data, (struct archive * a, const void *data, size_t len),          \
      (a, data, len))                                                                              \
    F(int, archive_write_finish_entry, (struct archive * a), (a))                                  \
    F(int, archive_write_free, (struct archive * a), (a))                                          \
    F(int, archive_write_header, (struct archive * a, struct archive_entry * entry), (a, entry))   \
    F(struct archive *, archive_write_new, (void), ())                                             \
    F(int, archive_write_open,                                                                     \
      (struct archive * a, void *arg, archive_open_callback *on_open,                              \
       archive_write_callback *on_write, archive_close_callback *on_close),                        \
      (a, arg, on_open, on_write, on_close))                                                       \
    F(int, archive_write_set_bytes_in_last_block, (struct archive * a, int bytes), (a, bytes))     \
    F(int, archive_write_set_bytes_per_block, (struct archive * a, int bytes), (a, bytes))         \
    F(int, archive_write_set_format_option,                                                        \
      (struct archive * a, const char *module, const char *option, const char *value),             \
      (a, module, option, value))                                                                  \
    F(int, archive_write_set_format_pax_restricted, (struct archive * a), (a))
#define ALL(F) FUNCTIONS(F) F(void, archive_set_error, (), ())

WA_LIBRARY(WA_ARCHIVE_SONAME, ALL);
FUNCTIONS(WA_LIBRARY_DEFINE)

void
archive_set_error(struct archive *a, int error, const char *fmt, ...)
{
    char text[WA_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ((__typeof__(&archive_set_error))wa_library_function(&library, INDEX_OF_archive_set_error))(
        a, error, "%s", text);
}

wa_status
wa_libarchive_load(wa_error *err)
{
    return wa_library_load(&library, err);
}
