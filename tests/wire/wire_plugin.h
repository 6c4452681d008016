/*
 * wire_plugin: what packetdrill asks of a stack that it loads as a shared object.
 *
 * packetdrill finds the one symbol below, gives it the text of --so_flags (wire_settings_parse) and
 * an empty table, and makes every call of a script through the table from then on: the sockets' calls,
 * packets in and out, and the clock, which is virtual. The order and the types of the entries are
 * packetdrill's binary interface; each answers as its namesake in libc, errno included.
 */
#pragma once
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct packetdrill_interface {
    void *self; /* the first argument of all */
    void (*free)(void *self);
    int (*socket)(void *self, int domain, int type, int protocol);
    int (*bind)(void *self, int fd, const struct sockaddr *at, socklen_t bytes);
    int (*listen)(void *self, int fd, int backlog);
    int (*accept)(void *self, int fd, struct sockaddr *peer, socklen_t *bytes);
    int (*connect)(void *self, int fd, const struct sockaddr *to, socklen_t bytes);
    ssize_t (*read)(void *self, int fd, void *buffer, size_t size);
    ssize_t (*readv)(void *self, int fd, const struct iovec *parts, int count);
    ssize_t (*recv)(void *self, int fd, void *buffer, size_t size, int flags);
    ssize_t (*recvfrom)(void *self, int fd, void *buffer, size_t size, int flags,
                        struct sockaddr *from, socklen_t *bytes);
    ssize_t (*recvmsg)(void *self, int fd, struct msghdr *message, int flags);
    ssize_t (*write)(void *self, int fd, const void *bytes, size_t size);
    ssize_t (*writev)(void *self, int fd, const struct iovec *parts, int count);
    ssize_t (*send)(void *self, int fd, const void *bytes, size_t size, int flags);
    ssize_t (*sendto)(void *self, int fd, const void *bytes, size_t size, int flags,
                      const struct sockaddr *to, socklen_t to_bytes);
    ssize_t (*sendmsg)(void *self, int fd, const struct msghdr *message, int flags);
    int (*fcntl)(void *self, int fd, int command, ...);
    int (*ioctl)(void *self, int fd, unsigned long request, ...);
    int (*close)(void *self, int fd);
    int (*shutdown)(void *self, int fd, int how);
    int (*getsockopt)(void *self, int fd, int level, int name, void *value, socklen_t *bytes);
    int (*setsockopt)(void *self, int fd, int level, int name, const void *value, socklen_t bytes);
    int (*poll)(void *self, struct pollfd *polled, nfds_t count, int timeout_ms);
    int (*netdev_send)(void *self, const void *packet, size_t bytes); /* into the stack */
    /* The next packet out of it; *size is the room, then the packet's size. */
    int (*netdev_receive)(void *self, void *packet, size_t *size, long long *time_us);
    int (*usleep)(void *self, useconds_t us);
    int (*gettimeofday)(void *self, struct timeval *now, struct timezone *zone);
    int (*epoll_create)(void *self, int size);
    int (*epoll_ctl)(void *self, int epoll, int operation, int fd, struct epoll_event *event);
    int (*epoll_wait)(void *self, int epoll, struct epoll_event *events, int max, int timeout_ms);
    int (*pipe)(void *self, int fds[2]);
    int (*splice)(void *self, int from, off_t *from_offset, int to, off_t *to_offset, size_t size,
                  unsigned int flags);
};

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *table);
