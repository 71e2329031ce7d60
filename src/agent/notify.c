/*
 * notify.c - sd_notify(3) without libsystemd: one datagram to the socket in $NOTIFY_SOCKET.
 */
#include "agent_internal.h"

#include "walagent/base/str.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
wa_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (wa_str_empty(path) || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') /* abstract name space */
        address.sun_path[0] = '\0';
    WA_CLEANUP(wa_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    /* Losing a notification is not a failure of the agent. */
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, len);
    (void)sent;
}

uint64_t
wa_notify_watchdog_ms(void)
{
    const char *text = getenv("WATCHDOG_USEC");
    uint64_t usec = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (wa_str_empty(text) || wa_parse_u64(text, &usec, &ignored) != WA_OK)
        return 0;
    return usec / 2000;
}
