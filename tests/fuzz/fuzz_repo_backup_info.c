/*
 * Fuzz target: backup.json and begin.json; what is accepted reads the same after it was written
 * again.
 */
#include "walagent/repo/backup_object.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *info = NULL;
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *again = NULL;
    wa_error err = WA_ERROR_INIT;

    if (wa_json_parse((const char *)data, len, "input", &json, &err) != WA_OK ||
        wa_backup_info_from_json(json, "input", &info, &err) != WA_OK) {
        WA_ASSERT(err.status == WA_CORRUPT && err.message[0] != '\0');
        return 0;
    }
    WA_ASSERT(wa_backup_label_valid(info->label));
    WA_CLEANUP(wa_json_freep) json_t *written = wa_backup_info_to_json(info);
    WA_ASSERT(wa_backup_info_from_json(written, "output", &again, &err) == WA_OK);
    WA_ASSERT(strcmp(again->label, info->label) == 0 && again->incremental == info->incremental);
    WA_ASSERT(again->start_lsn == info->start_lsn && again->end_lsn == info->end_lsn);
    WA_ASSERT(again->start_time == info->start_time && again->end_time == info->end_time);
    WA_ASSERT(again->system_identifier == info->system_identifier);
    WA_ASSERT(again->pack_count == info->pack_count);
    WA_ASSERT(again->tablespace_count == info->tablespace_count);
    return 0;
}
