"""The machine code of the trampoline, as listings: bytes, label, instruction.

The trampoline is the program that executes a container's program (see `trampoline`). It is
started with argv = ["imgtools" + N, PATH, ARGS...] and what it does is the same on each machine:

1. less than three arguments, or another first one: the fourth table, descriptor 2;
2. N, a decimal number above 2, is the descriptor that reports failure: make it close-on-exec;
3. if the orders say so, load the seccomp filter that they hold;
4. execve(PATH, ARGS, environment), which does not return if it succeeds;
5. find the error in the table of the step that failed, write its text to descriptor N, and
   exit with its code; if even that is denied, an invalid instruction ends the process.

The orders lie at address ORDERS, which the listings know as 0x10000200:

    0  the text "imgtools"             16  struct sock_fprog: length, address of the filter
    8  flags of seccomp(2)             32  address of the table of execve(2), 40 seccomp(2),
    12 1 if there is a filter, else 0  48  fcntl(2), 56 of being started by somebody else

A table's entries are 24 bytes: error number (0 ends the table and stands for all others), exit
code, address and length of the text.

A script whose interpreter is /proc/self/exe, and a container whose program is, come to step 1
with that as first argument: what they find there is this, not the interpreter of the runtime.
"""

from __future__ import annotations

BASE = 0x10000000
ORDERS = BASE + 0x200
MARKER = b"imgtools"
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}

_X86_64 = """
bb00020010     |           | mov ebx, 0x10000200
4c8b2424       |           | mov r12, [rsp]
4c8d6c2408     |           | lea r13, [rsp+8]
4983fc03       |           | cmp r12, 3
0f82bf000000   |           | jb stranger
498b7500       |           | mov rsi, [r13]
488b06         |           | mov rax, [rsi]
483b03         |           | cmp rax, [rbx]
0f85af000000   |           | jne stranger
4531ff         |           | xor r15d, r15d
4883c608       |           | add rsi, 8
0fb606         | digit:    | movzx eax, [rsi]
83e830         |           | sub eax, 48
720c           |           | jb fcntl
456bff0a       |           | imul r15d, r15d, 10
4101c7         |           | add r15d, eax
48ffc6         |           | inc rsi
ebec           |           | jmp digit
4183ff02       | fcntl:    | cmp r15d, 2
761c           |           | jbe filter
4489ff         |           | mov edi, r15d
be02000000     |           | mov esi, 2
ba01000000     |           | mov edx, 1
b848000000     |           | mov eax, 72
0f05           |           | syscall
4c8b7330       |           | mov r14, [rbx+48]
85c0           |           | test eax, eax
7539           |           | jnz failed
837b0c00       | filter:   | cmp [rbx+12], 0
741b           |           | je exec
bf01000000     |           | mov edi, 1
8b7308         |           | mov esi, [rbx+8]
488d5310       |           | lea rdx, [rbx+16]
b83d010000     |           | mov eax, 317
0f05           |           | syscall
4c8b7328       |           | mov r14, [rbx+40]
85c0           |           | test eax, eax
7518           |           | jnz failed
498b7d08       | exec:     | mov rdi, [r13+8]
498d7510       |           | lea rsi, [r13+16]
4b8d54e508     |           | lea rdx, [r13+r12*8+8]
b83b000000     |           | mov eax, 59
0f05           |           | syscall
4c8b7320       |           | mov r14, [rbx+32]
f7d8           | failed:   | neg eax
418b0e         | search:   | mov ecx, [r14]
85c9           |           | test ecx, ecx
740a           |           | jz found
39c1           |           | cmp ecx, eax
7406           |           | je found
4983c618       |           | add r14, 24
ebef           |           | jmp search
4489ff         | found:    | mov edi, r15d
498b7608       |           | mov rsi, [r14+8]
498b5610       |           | mov rdx, [r14+16]
b801000000     |           | mov eax, 1
0f05           |           | syscall
418b7e04       |           | mov edi, [r14+4]
b8e7000000     |           | mov eax, 231
0f05           |           | syscall
b83c000000     |           | mov eax, 60
0f05           |           | syscall
0f0b           |           | ud2
41bf02000000   | stranger: | mov r15d, 2
4c8b7338       |           | mov r14, [rbx+56]
ebce           |           | jmp found
"""

_AARCH64 = """
134080d2       |           | movz x19, #0x200
1300a2f2       |           | movk x19, #0x1000, lsl #16
f40340f9       |           | ldr x20, [sp]
f5230091       |           | add x21, sp, #8
9f0e00f1       |           | cmp x20, #3
63070054       |           | b.lo stranger
a10240f9       |           | ldr x1, [x21]
200040f9       |           | ldr x0, [x1]
620240f9       |           | ldr x2, [x19]
1f0002eb       |           | cmp x0, x2
c1060054       |           | b.ne stranger
16008052       |           | movz w22, #0
44018052       |           | movz w4, #10
21200091       |           | add x1, x1, #8
20144038       | digit:    | ldrb w0, [x1], #1
00c00071       |           | subs w0, w0, #48
63000054       |           | b.lo fcntl
d602041b       |           | madd w22, w22, w4, w0
fcffff17       |           | b digit
df0a0071       | fcntl:    | cmp w22, #2
09010054       |           | b.ls filter
e003162a       |           | mov w0, w22
410080d2       |           | movz x1, #2
220080d2       |           | movz x2, #1
280380d2       |           | movz x8, #25
010000d4       |           | svc #0
771a40f9       |           | ldr x23, [x19, #48]
200200b5       |           | cbnz x0, failed
600e40b9       | filter:   | ldr w0, [x19, #12]
00010034       |           | cbz w0, exec
200080d2       |           | movz x0, #1
610a40b9       |           | ldr w1, [x19, #8]
62420091       |           | add x2, x19, #16
a82280d2       |           | movz x8, #277
010000d4       |           | svc #0
771640f9       |           | ldr x23, [x19, #40]
000100b5       |           | cbnz x0, failed
a00640f9       | exec:     | ldr x0, [x21, #8]
a1420091       |           | add x1, x21, #16
a20e148b       |           | add x2, x21, x20, lsl #3
42200091       |           | add x2, x2, #8
a81b80d2       |           | movz x8, #221
010000d4       |           | svc #0
771240f9       |           | ldr x23, [x19, #32]
e00300cb       | failed:   | neg x0, x0
e10240b9       | search:   | ldr w1, [x23]
a1000034       |           | cbz w1, found
3f00006b       |           | cmp w1, w0
60000054       |           | b.eq found
f7620091       |           | add x23, x23, #24
fbffff17       |           | b search
e003162a       | found:    | mov w0, w22
e10640f9       |           | ldr x1, [x23, #8]
e20a40f9       |           | ldr x2, [x23, #16]
080880d2       |           | movz x8, #64
010000d4       |           | svc #0
f80640b9       |           | ldr w24, [x23, #4]
e003182a       |           | mov w0, w24
c80b80d2       |           | movz x8, #94
010000d4       |           | svc #0
e003182a       |           | mov w0, w24
a80b80d2       |           | movz x8, #93
010000d4       |           | svc #0
000020d4       |           | brk #0
56008052       | stranger: | movz w22, #2
771e40f9       |           | ldr x23, [x19, #56]
f1ffff17       |           | b found
"""

_LISTINGS = {"x86_64": _X86_64, "aarch64": _AARCH64}


def machine_code(machine: str) -> bytes:
    """The code for a machine that ELF_MACHINES names."""
    lines = _LISTINGS[machine].strip().splitlines()
    return bytes.fromhex("".join(line.partition("|")[0] for line in lines))
