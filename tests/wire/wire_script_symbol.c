#include "tests/wire/wire_script.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, name                                                                                \
    }

static const struct {
    const char *name;
    int64_t number;
} symbols[] = {
    SYMBOL(AF_INET),       SYMBOL(AF_INET6),      SYMBOL(PF_INET),          SYMBOL(PF_INET6),
    SYMBOL(SOCK_STREAM),   SYMBOL(SOCK_NONBLOCK), SYMBOL(IPPROTO_TCP),      SYMBOL(IPPROTO_IP),
    SYMBOL(SOL_SOCKET),    SYMBOL(SOL_TCP),       SYMBOL(SO_REUSEADDR),     SYMBOL(SO_KEEPALIVE),
    SYMBOL(SO_LINGER),     SYMBOL(SO_RCVBUF),     SYMBOL(SO_SNDBUF),        SYMBOL(SO_ERROR),
    SYMBOL(TCP_NODELAY),   SYMBOL(TCP_MAXSEG),    SYMBOL(TCP_USER_TIMEOUT), SYMBOL(TCP_KEEPIDLE),
    SYMBOL(TCP_KEEPINTVL), SYMBOL(TCP_KEEPCNT),   SYMBOL(TCP_LINGER2),      SYMBOL(F_GETFL),
    SYMBOL(F_SETFL),       SYMBOL(O_RDWR),        SYMBOL(O_NONBLOCK),       SYMBOL(SHUT_RD),
    SYMBOL(SHUT_WR),       SYMBOL(SHUT_RDWR),     SYMBOL(MSG_DONTWAIT),     SYMBOL(MSG_PEEK),
    SYMBOL(MSG_WAITALL),   SYMBOL(POLLIN),        SYMBOL(POLLOUT),          SYMBOL(POLLERR),
    SYMBOL(POLLHUP),       SYMBOL(POLLRDHUP),     SYMBOL(SIOCINQ),          SYMBOL(SIOCOUTQ),
    SYMBOL(EAGAIN),        SYMBOL(EALREADY),      SYMBOL(ECONNABORTED),     SYMBOL(ECONNREFUSED),
    SYMBOL(ECONNRESET),    SYMBOL(EHOSTUNREACH),  SYMBOL(EINPROGRESS),      SYMBOL(EINVAL),
    SYMBOL(EISCONN),       SYMBOL(ENETUNREACH),   SYMBOL(ENOTCONN),         SYMBOL(EPIPE),
    SYMBOL(ETIMEDOUT),     SYMBOL(EBADF),         SYMBOL(EMSGSIZE),         SYMBOL(ENOPROTOOPT),
    SYMBOL(EPROTO),
};

bool wire_symbol(const char *name, int64_t *number)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        if (strcmp(symbols[i].name, name) == 0) {
            *number = symbols[i].number;
            return true;
        }
    }
    return false;
}
