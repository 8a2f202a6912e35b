;; Makes a component of a core module that exports `run`, a function without parameters that gives a number: the answer is that number.
;; TYPE stands for the number's type, WIDE for a call that gives the number as an i64. The first core module is replaced by the script.
(component
  (core module $script (func (export "run") (result TYPE) (TYPE.const 0)))
  (core instance $script (instantiate $script))

  (core module $answer
    (import "script" "run" (func $run (result TYPE)))
    (memory (export "memory") 1)
    ;; The message is not read. Its bytes only need room somewhere.
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.shl (memory.size) (i32.const 16)))
      (if (i32.eq (i32.const -1)
            (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 16))))
        (then unreachable))
      (local.get $at))
    ;; The result is at 16: its case, 0 for ok, then the address and the length of the digits. The digits end at 64.
    (func (export "handle") (param i32 i32 i32) (result i32)
      (local $number i64) (local $rest i64) (local $at i32)
      (local.set $number WIDE)
      ;; The number without its sign is unsigned, because the smallest i64 has no positive counterpart.
      (local.set $rest
        (select (i64.sub (i64.const 0) (local.get $number)) (local.get $number)
          (i64.lt_s (local.get $number) (i64.const 0))))
      (local.set $at (i32.const 64))
      (loop $digits
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at)
          (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $rest) (i64.const 10)))))
        (local.set $rest (i64.div_u (local.get $rest) (i64.const 10)))
        (br_if $digits (i64.ne (local.get $rest) (i64.const 0))))
      (if (i64.lt_s (local.get $number) (i64.const 0))
        (then
          (local.set $at (i32.sub (local.get $at) (i32.const 1)))
          (i32.store8 (local.get $at) (i32.const 45))))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (i32.sub (i32.const 64) (local.get $at)))
      (i32.const 16)))
  (core instance $answer (instantiate $answer (with "script" (instance $script))))

  (type $fields (record (field "code" string) (field "message" string)))
  (export $failure "failure" (type $fields))
  (func $handle (param "msg" (option string)) (result (result string (error $failure)))
    (canon lift (core func $answer "handle")
      (memory (core memory $answer "memory")) (realloc (core func $answer "realloc"))))
  (instance $handler (export "failure" (type $failure)) (export "handle" (func $handle)))
  (export "pomelo:admin/monitor-handler@0.1.0" (instance $handler)))
