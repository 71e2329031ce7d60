/*
 * Fuzz target: backup_label, and the words that are quoted for the configuration file.
 */
#include "walagent/pg/recovery.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    wa_backup_label label;
    wa_status status = wa_backup_label_parse((const char *)data, len, &label, &err);
    WA_ASSERT(status == WA_OK || status == WA_CORRUPT);
    WA_ASSERT(status != WA_OK ||
              (label.start_tli > 0 && strlen(label.start_segment) == WA_SEGMENT_NAME - 1));
    WA_CLEANUP(wa_freep) char *word = wa_strndup((const char *)data, len);
    WA_CLEANUP(wa_freep) char *quoted = wa_shell_quote(word);
    WA_ASSERT(quoted[0] != '\0');
    WA_CLEANUP(wa_freep) char *line = NULL;
    status = wa_setting_line(word, word, &line, &err);
    WA_ASSERT(status == WA_OK || status == WA_INVALID);
    WA_ASSERT(status != WA_OK || strpbrk(line, "\r\n") == NULL);
    return 0;
}
