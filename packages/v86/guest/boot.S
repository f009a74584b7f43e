/* Entry of a multiboot kernel and of every interrupt. */
        .section .multiboot, "a"
        .long   0x1badb002, 0, -0x1badb002

        .text
        .globl  start
start:  cli
        mov     $stack, %esp
        lgdt    gdt_pointer
        ljmp    $8, $1f
1:      mov     $16, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %ss
        push    %ebx                            /* what the loader tells */
        call    kernel_main
        push    %eax
        call    leave_machine
2:      hlt
        jmp     2b

/* One stub for each vector up to LAST_VECTOR, 8 bytes apart: pushes the vector and goes on. Error codes are not needed: faults do not return. */
        .set    LAST_VECTOR, 0x5f
        .align  8
        .globl  interrupt_stubs
interrupt_stubs:
        .set    vector, 0
        .rept   LAST_VECTOR + 1
        .align  8
        push    $vector
        jmp     interrupt_entry
        .set    vector, vector + 1
        .endr
interrupt_entry:
        pusha
        cld
        push    32(%esp)
        call    interrupt
        add     $4, %esp
        popa
        add     $4, %esp
        iret

        .data
        .align  8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .bss
        .align  16
        .skip   16384
stack:

        .section .note.GNU-stack, "", @progbits
