/*
 * For linux.uml (Debian 12: 6.1) on a processor with AMX: preloaded, it hands the kernel the whole of a process's floating-point state.
 *
 * user-mode Linux keeps 2696 bytes of it, which is all up to AVX-512. Linux takes back the whole or nothing (xstateregs_set, arch/x86/kernel/fpu/regset.c:
 * EFAULT), and with AMX the whole is 11008 bytes: without this the host of the lab dies with its first process ("put_fp_registers"). What is added is zero, and
 * said to be in its initial state, as no process of the host has any use for it.
 */
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of the XSAVE area: where its header says what is in it, and the components that lie within 2696 bytes. */
enum { HEADER = 512, WITHIN = 0x3ff };

/* The kernel takes of it what it needs. Not on the stack: it is the host's kernel's, 16 KB; there is one processor, and no call in a call. */
static unsigned char whole[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    va_list more;
    va_start(more, request);
    pid_t pid = va_arg(more, pid_t);
    void *address = va_arg(more, void *), *data = va_arg(more, void *);
    va_end(more);

    struct iovec *given = data, wider = {whole, sizeof whole};
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE && given->iov_len < sizeof whole) {
        uint64_t there;
        memcpy(whole, given->iov_base, given->iov_len);
        memcpy(&there, whole + HEADER, sizeof there);
        there &= WITHIN;
        memcpy(whole + HEADER, &there, sizeof there);
        data = &wider;
    }
    /* Where a PEEK leaves what it read: the C library's function returns it. */
    long word;
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
        return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
    return syscall(SYS_ptrace, request, pid, address, data);
}
