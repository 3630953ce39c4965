//! An image of more than a gigabyte: it arrives whole, and the server's memory stays small.

use std::fs;

use wharfinger_e2e::clients::copy;
use wharfinger_e2e::image::Layout;
use wharfinger_e2e::{Wharfinger, folder, run};

const MIB: u64 = 1 << 20;

#[test]
fn gigabytes_go_in_and_out_in_bounded_memory() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let path = home.path().join("layout");
    let mut layout = Layout::create(&path).unwrap();
    let layers = [
        layout.layer(&[(1, 1100 * MIB)]).unwrap(),
        layout.layer(&[(2, 200 * MIB), (3, 100 * MIB)]).unwrap(),
        layout.layer(&[(4, 100 * MIB)]).unwrap(),
        layout.layer(&[(5, 7)]).unwrap(),
    ];
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "large").unwrap();
    let target = format!("docker://{}", server.image("large/image:1"));
    run(&mut copy(&source, &target));
    assert_eq!(
        server.http().digest("large/image", "1"),
        image["digest"].as_str().unwrap()
    );
    fs::remove_dir_all(path).unwrap();

    // skopeo checks every digest on the way back.
    let back = home.path().join("back");
    run(&mut copy(&target, &format!("dir:{}", back.display())));
    for layer in &layers {
        let file = back.join(layer["digest"].as_str().unwrap().replace("sha256:", ""));
        let size = fs::metadata(file).unwrap().len();
        assert_eq!(size, layer["size"].as_u64().unwrap());
    }
    let peak = server.peak_memory();
    println!("the server took {} MiB at most", peak / MIB);
    assert!(peak < 128 * MIB, "the server took {} MiB", peak / MIB);
}
