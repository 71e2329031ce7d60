/*
 * hook.c - modes and exit codes of the hooks.
 */
#include "walagent/base/hook.h"

#include "walagent/base/file.h"
#include "walagent/base/mem.h"
#include "walagent/base/str.h"

wa_get_mode
wa_get_mode_of(const char *data_dir, const char *target)
{
    const char *base = wa_path_base(target);
    if (!wa_str_eq(base, "RECOVERYXLOG") && !wa_str_eq(base, "RECOVERYHISTORY"))
        return WA_GET_RAW;
    WA_CLEANUP(wa_freep) char *standby = wa_path_join(data_dir, "standby.signal");
    return wa_path_exists(standby) ? WA_GET_STANDBY : WA_GET_RECOVERY;
}

const char *
wa_get_mode_name(wa_get_mode mode)
{
    switch (mode) {
    case WA_GET_RAW:
        return "raw";
    case WA_GET_STANDBY:
        return "standby";
    case WA_GET_RECOVERY:
        return "recovery";
    }
    return "raw";
}

int
wa_get_exit_code(wa_get_mode mode, wa_status status)
{
    if (status == WA_OK)
        return 0;
    if (status == WA_NOT_FOUND)
        return 1;
    switch (mode) {
    case WA_GET_RECOVERY:
        return WA_EXIT_RECOVERY_FAILED;
    case WA_GET_STANDBY:
        return 4;
    case WA_GET_RAW:
        break;
    }
    /* 1 is taken by "positively absent": any other failure must not look like it. */
    int code = wa_exit_code(status);
    return code == 1 ? 4 : code;
}

int
wa_exit_code(wa_status status)
{
    switch (status) {
    case WA_OK:
        return 0;
    case WA_INVALID:
    case WA_UNSUPPORTED:
        return 2;
    case WA_UNREACHABLE:
    case WA_CORRUPT:
        return 3;
    case WA_UNAVAILABLE:
        return 4;
    case WA_CONFLICT:
        return 5;
    case WA_NOT_FOUND:
    case WA_EXISTS:
    case WA_DENIED:
    case WA_CANCELLED:
    case WA_NO_SPACE:
    case WA_IO:
    case WA_FAILED:
        return 1;
    }
    return 1;
}

char *
wa_hook_socket_path(const wa_config *config)
{
    const char *socket = wa_config_string(config, "agent", "socket");
    if (!wa_str_empty(socket))
        return wa_strdup(socket);
    return wa_format("/run/walagent/%s.sock", wa_config_string(config, "cluster", "name"));
}
