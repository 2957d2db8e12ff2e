//! Buffers cross threads; `media` itself starts none, so the test stands here.

use ringside::media::buffer::Pool;

#[test]
fn buffers_dropped_on_other_threads_come_home() {
    let mut pool = Pool::new(256);
    let threads: Vec<_> = (0..4u8)
        .map(|n| {
            let views: Vec<_> = (0..100)
                .map(|_| {
                    let mut slab = pool.take();
                    slab.append(&[n; 200]);
                    slab.view(0..200)
                })
                .collect();
            std::thread::spawn(move || {
                assert!(views.iter().all(|view| view.iter().all(|b| *b == n)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("checks its bytes");
    }
    assert_eq!(pool.in_use(), 0);
    assert!(
        pool.blocks() <= 64,
        "beyond what is kept idle, blocks are freed"
    );
}
