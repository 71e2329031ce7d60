/*
 * walagent/pg/recovery.h - what PostgreSQL reads when it starts from a backup: backup_label,
 * tablespace_map, settings, signal files.
 *
 * Settings are appended to postgresql.auto.conf between marker lines (earlier ones of ours and
 * earlier recovery settings are taken out), quoted as the configuration file wants it.
 */
#ifndef WALAGENT_PG_RECOVERY_H
#define WALAGENT_PG_RECOVERY_H

#include "walagent/base/buf.h"
#include "walagent/base/error.h"
#include "walagent/base/str.h"
#include "walagent/base/time.h"
#include "walagent/pg/lsn.h"

typedef struct wa_backup_label {
    wa_lsn start_lsn, checkpoint;
    wa_tli start_tli;
    char start_segment[WA_SEGMENT_NAME];
    bool from_standby;
    wa_lsn incremental_from; /* 17+, 0 else */
    wa_tli incremental_from_tli;
} wa_backup_label;
wa_status wa_backup_label_parse(const char *text, size_t len, wa_backup_label *ret,
                                wa_error *err) WA_MUST_CHECK;

/* name = 'value' with the file's quoting; a new string. INVALID on a name that is no parameter name
 * or a value with a newline. */
wa_status wa_setting_line(const char *name, const char *value, char **ret,
                          wa_error *err) WA_MUST_CHECK;
/* names and values in pairs: settings->items[2i], [2i+1]. Rewrites data_dir/postgresql.auto.conf
 * durably. */
wa_status wa_settings_write(const char *data_dir, const wa_strv *pairs,
                            wa_error *err) WA_MUST_CHECK;
/* Quote one word for /bin/sh. A new string. */
char *wa_shell_quote(const char *word);

#endif
