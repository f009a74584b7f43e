/*
 * The program of the self-test (src/self-test.ts holds the other half): each step leaves what it found in memory at MAILBOX, and
 * prints one letter. It has no stack but the one below, and no memory of its own besides the mailbox.
 */
        .set    MAILBOX, 0x180000
        .set    WINDOW, 0xc0000000
        .set    SERIAL, 0x3f8
        .set    SLOT, 0x80000800                /* bus 0, slot 1, function 0 */
        .set    LINE, 11                        /* slot 1 leads there */
        .set    PIC_BASE, 0x20
        .set    IRQ_VECTOR, PIC_BASE + LINE
        .set    MESSAGE_VECTOR, 0x50

        .section .multiboot, "a"
        .long   0x1badb002, 0, -0x1badb002

        .macro  print letter
        mov     $SERIAL, %dx
        mov     $\letter, %al
        out     %al, %dx
        .endm

        .macro  config offset, value
        mov     $0xcf8, %dx
        mov     $(SLOT + (\offset)), %eax
        out     %eax, %dx
        mov     $0xcfc, %dx
        mov     $(\value), %eax
        out     %eax, %dx
        .endm

        .macro  gate vector, handler
        mov     $\handler, %eax
        mov     %ax, idt + \vector * 8
        shr     $16, %eax
        mov     %ax, idt + \vector * 8 + 6
        movl    $0x8, idt + \vector * 8 + 2     /* the code segment; the type follows in the next two bytes */
        movw    $0x8e00, idt + \vector * 8 + 4
        .endm

        .text
        .globl  start
start:  cli
        mov     $stack, %esp
        lgdt    gdt_pointer
        ljmp    $8, $1f
1:      mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        print   'C'

        /* Memory: what the other side put there, and back its complement. */
        mov     MAILBOX, %eax
        not     %eax
        mov     %eax, MAILBOX + 4
        print   'R'

        /* PCI: identity, a window, a register read and written. */
        mov     $0xcf8, %dx
        mov     $SLOT, %eax
        out     %eax, %dx
        mov     $0xcfc, %dx
        in      %dx, %eax
        mov     %eax, MAILBOX + 8
        config  0x10, WINDOW
        config  0x04, 6                         /* memory, bus master */
        mov     WINDOW, %eax
        mov     %eax, MAILBOX + 12
        not     %eax
        mov     %eax, WINDOW + 4
        print   'P'

        /* An interrupt by the pin. */
        gate    IRQ_VECTOR, on_interrupt
        gate    MESSAGE_VECTOR, on_message
        lidt    idt_pointer
        mov     $0x11, %al                      /* both controllers: cascade, 8086 mode */
        out     %al, $0x20
        out     %al, $0xa0
        mov     $PIC_BASE, %al
        out     %al, $0x21
        mov     $(PIC_BASE + 8), %al
        out     %al, $0xa1
        mov     $4, %al
        out     %al, $0x21
        mov     $2, %al
        out     %al, $0xa1
        mov     $1, %al
        out     %al, $0x21
        out     %al, $0xa1
        mov     $0xfb, %al                      /* nothing but the cascade ... */
        out     %al, $0x21
        mov     $(0xff & ~(1 << (LINE - 8))), %al /* ... and the line */
        out     %al, $0xa1
        movl    $1, WINDOW + 0x10
        sti
        hlt
        cli

        /* An interrupt by a message. */
        movl    $0x1ff, 0xfee000f0              /* the local APIC, on */
        config  0x44, 0xfee00000
        config  0x4c, MESSAGE_VECTOR
        config  0x40, 0x00810005                /* 64-bit addresses, on */
        movl    $2, WINDOW + 0x10
        sti
        hlt
        cli
        mov     $0xf4, %dx
        mov     $0x55, %eax
        out     %eax, %dx
2:      hlt
        jmp     2b

on_interrupt:
        mov     WINDOW + 0x14, %eax             /* acknowledges */
        print   'I'
        mov     $0x20, %al
        out     %al, $0xa0
        out     %al, $0x20
        iret

on_message:
        print   'M'
        movl    $0, 0xfee000b0
        iret

        .data
        .align  8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt_pointer:
        .word   0x51 * 8 - 1
        .long   idt

        .bss
        .align  8
idt:    .skip   0x51 * 8
        .skip   1024
stack:

        .section .note.GNU-stack, "", @progbits
