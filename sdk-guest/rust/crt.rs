#![no_std]
#![feature(thread_local)]
//! What std references and Debian's 2022 wasi-libc lacks: threads, sockets, realpath; each fails at run time.
//! With `--cfg command`, also the start of a program: wasi-libc's own of 2022 leaves running the constructors to
//! the linker, which does not do it once any object (wit-bindgen's) names `__wasm_call_ctors`.
use core::ffi::{c_char, c_int, c_void};
const EAGAIN: c_int = 6;
const ENOTSUP: c_int = 58;
const EAI_FAIL: c_int = -4;
unsafe extern "C" { #[thread_local] static mut errno: c_int; }
fn fail() -> c_int { unsafe { errno = ENOTSUP } -1 }
type P = *mut c_void;
macro_rules! fns { ($($n:ident($($t:ty),*) -> $r:ty = $e:expr;)*) => { $(#[unsafe(no_mangle)] pub extern "C" fn $n($(_: $t),*) -> $r { $e })* } }
fns! {
    pthread_attr_init(P) -> c_int = 0;
    pthread_attr_setstacksize(P, usize) -> c_int = 0;
    pthread_attr_destroy(P) -> c_int = 0;
    pthread_create(P, P, P, P) -> c_int = EAGAIN;
    pthread_detach(P) -> c_int = 0;
    pthread_join(P, P) -> c_int = 0;
    realpath(*const c_char, P) -> P = { fail(); core::ptr::null_mut() };
    socket(c_int, c_int, c_int) -> c_int = fail();
    bind(c_int, P, u32) -> c_int = fail();
    connect(c_int, P, u32) -> c_int = fail();
    listen(c_int, c_int) -> c_int = fail();
    getsockname(c_int, P, P) -> c_int = fail();
    getpeername(c_int, P, P) -> c_int = fail();
    setsockopt(c_int, c_int, c_int, P, u32) -> c_int = fail();
    sendto(c_int, P, usize, c_int, P, u32) -> isize = fail() as isize;
    recvfrom(c_int, P, usize, c_int, P, P) -> isize = fail() as isize;
    getaddrinfo(P, P, P, P) -> c_int = EAI_FAIL;
    freeaddrinfo(P) -> () = ();
    gai_strerror(c_int) -> *const c_char = c"name resolution is not supported".as_ptr();
}
#[cfg(command)]
mod command {
    use core::ffi::c_int;
    unsafe extern "C" { fn __wasm_call_ctors(); fn __wasm_call_dtors(); fn __main_void() -> c_int; fn __wasi_proc_exit(c: c_int) -> !; }
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn _start() {
        unsafe {
            __wasm_call_ctors();
            let r = __main_void();
            __wasm_call_dtors();
            if r != 0 { __wasi_proc_exit(r) }
        }
    }
}
