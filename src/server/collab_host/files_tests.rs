//! Tests of a session's files.

use bytes::Bytes;

use super::*;
use crate::collab::Change;

const A: &str = "00000000-0000-4000-8000-00000000000a";
const ID: SceneId = SceneId([5; 16]);

fn files(name: &str) -> Files {
    let folder = std::env::temp_dir().join(format!("ringside-keep-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    Files::open(&folder.join("new").join("scene.db")).expect("nobody else has it")
}

fn node(uuid: &str) -> Record {
    let part = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let uuid = Bytes::copy_from_slice(uuid.as_bytes());
    Record::Node([uuid, part(b"bob"), part(b"\x80\x04]."), part(b"\x80\x04}.")])
}

fn uuid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// A scene of so many nodes.
fn scene(nodes: usize) -> Scene {
    let mut scene = Scene::default();
    let nodes = (0..nodes).map(|n| node(&uuid(n)));
    for record in nodes.chain([Record::Complete]) {
        scene.apply(&Change::Record(record));
    }
    scene
}

fn write_log(files: &Files, number: u64, follows_gap: bool, records: &[Record]) {
    let head = Head {
        scene: ID,
        number,
        follows_gap,
    };
    let mut log = Log::new(files.create_log(&head).unwrap(), number, true);
    for record in records {
        log.append(record).unwrap();
    }
    log.flush().unwrap();
    assert_eq!(log.bytes(), fs::metadata(files.log(number)).unwrap().len());
}

fn names(files: &Files) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder(&files.path).unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "scene.db.lock")
        .collect();
    names.sort();
    names
}

const MARK: Mark = Mark { scene: ID, next: 4 };

#[test]
fn a_save_keeps_the_newest_backups() {
    let files = files("rotate");
    for second in 1..=4 {
        files.save(&scene(second), None, 2).unwrap();
        let file = File::options().write(true).open(&files.path).unwrap();
        let when = UNIX_EPOCH + Duration::from_secs(second as u64);
        file.set_modified(when).unwrap();
    }
    let expected = [
        "scene.db",
        "scene_1970_01_01_00-00-02.db",
        "scene_1970_01_01_00-00-03.db",
    ];
    assert_eq!(names(&files), expected);
    assert_eq!(files.restore(None).scene.nodes(), 4);
    files.save(&scene(5), None, 0).unwrap();
    assert_eq!(names(&files), ["scene.db"]);
}

#[test]
fn one_server_has_a_file() {
    let files = files("lock");
    assert_eq!(Files::open(&files.path).unwrap_err(), Taken);
    let path = files.path.clone();
    drop(files);
    assert!(Files::open(&path).is_ok());
}

#[test]
fn a_damaged_file_gives_way_to_a_backup() {
    let files = files("damaged");
    files.save(&scene(1), None, 5).unwrap();
    files.save(&scene(2), None, 5).unwrap();
    let whole = fs::read(&files.path).unwrap();
    fs::write(&files.path, &whole[..whole.len() - 9]).unwrap();
    fs::write(files.draft(), "half").unwrap();
    let found = files.restore(None);
    assert_eq!((found.scene.nodes(), found.is_continued), (1, false));
    assert!(names(&files).contains(&"scene.db.damaged".to_owned()));
    assert!(!files.draft().exists());
}

#[test]
fn logs_go_on_from_the_file() {
    let files = files("logs");
    files.save(&scene(1), Some(MARK), 1).unwrap();
    write_log(&files, 3, false, &[Record::Begin]); // It is part of the file.
    write_log(&files, 4, false, &[node(A)]);
    write_log(&files, 5, false, &[node(&uuid(7)), node(&uuid(8))]);
    // The server died within the last record.
    let whole = fs::read(files.log(5)).unwrap();
    fs::write(files.log(5), &whole[..whole.len() - 1]).unwrap();
    write_log(&files, 6, false, &[Record::Delete(uuid(0).into())]);
    let found = files.restore(None);
    assert_eq!(found.scene.nodes(), 2);
    assert_eq!((found.scene_id, found.next_log), (Some(ID), 7));
    assert!(found.is_continued && found.scene.is_complete());
    let expected = ["scene.db", "scene.db.log-00000004", "scene.db.log-00000005"];
    assert_eq!(names(&files)[..3], expected);
    files.forget_logs(6);
    assert_eq!(names(&files), ["scene.db", "scene.db.log-00000006"]);
}

#[test]
fn logs_of_generation_a_know_the_types_and_hold_nothing_else() {
    let files = files("typed");
    let Record::Node([uuid, owner, dependencies, data]) = node(A) else {
        panic!("no node");
    };
    let kind = Bytes::from_static(b"BlObject");
    let typed = Record::Typed([kind, uuid, owner, dependencies, data]);
    let records = [Record::Begin, typed.clone(), Record::Complete];
    write_log(&files, 1, false, &records);
    let found = files.restore(None);
    assert!(found.scene.is_complete());
    assert_eq!(found.scene.nodes(), 1);
    // A node of another generation ends what can be read.
    write_log(&files, 2, false, &[node(&self::uuid(1)), typed]);
    assert_eq!(files.restore(None).scene.nodes(), 1);
}

#[test]
fn logs_alone_are_a_scene() {
    let files = files("alone");
    write_log(&files, 1, false, &[Record::Begin, node(A)]);
    let found = files.restore(None);
    assert!(!found.scene.is_complete(), "it was not brought to its end");
    write_log(
        &files,
        2,
        false,
        &[Record::Begin, node(A), Record::Complete],
    );
    let found = files.restore(None);
    assert!(found.scene.is_complete() && found.is_continued);
    assert_eq!((found.scene.nodes(), found.next_log), (1, 3));
}

#[test]
fn logs_that_do_not_fit_are_set_aside() {
    let files = files("unused");
    files.save(&scene(1), Some(MARK), 1).unwrap();
    // Something is missing before both.
    write_log(&files, 6, false, &[node(A)]);
    write_log(&files, 7, false, &[node(A)]);
    let found = files.restore(None);
    assert_eq!((found.scene.nodes(), found.next_log), (1, 4));
    let unused = |number| format!("scene.db.log-{number:08}.unused");
    assert_eq!(names(&files), ["scene.db".to_owned(), unused(6), unused(7)]);

    // A log that follows a gap fits the file that closes it, and no other.
    write_log(&files, 4, true, &[node(A)]);
    write_log(&files, 5, true, &[node(&uuid(9))]);
    let found = files.restore(None);
    assert_eq!((found.scene.nodes(), found.next_log), (2, 5));
    assert!(names(&files).contains(&unused(5)));

    // A file that somebody has put there is of no log.
    files.save(&scene(3), None, 1).unwrap();
    write_log(&files, 1, false, &[node(A)]);
    let found = files.restore(None);
    assert_eq!((found.scene.nodes(), found.is_continued), (3, false));
    assert!(names(&files).contains(&unused(1)));
}

#[test]
fn a_preload_is_for_sessions_without_a_file() {
    let files = files("preload");
    let other = files.path.with_file_name("other.db");
    let file = scene(3).write(File::create(&other).unwrap(), Some(MARK));
    file.unwrap();
    let found = files.restore(Some(&other));
    assert_eq!((found.scene.nodes(), found.is_continued), (3, false));
    assert_eq!(found.scene_id, None, "the log is another session's");
    files.save(&scene(1), None, 1).unwrap();
    assert_eq!(files.restore(Some(&other)).scene.nodes(), 1);
    fs::remove_file(&files.path).unwrap();
    let nothing = files.restore(Some(Path::new("/nonexistent/scene.db")));
    assert!(!nothing.scene.is_complete());
}

#[test]
fn big_parts_are_written_by_themselves() {
    let files = files("big");
    let Record::Node([uuid, owner, dependencies, _]) = node(A) else {
        panic!("a node");
    };
    let mut data = b"\x80\x04}\x8c\x01aB".to_vec();
    data.extend_from_slice(&(1_000_000_u32).to_le_bytes());
    data.resize(data.len() + 1_000_000, 7);
    data.extend_from_slice(b"s.");
    let big = Record::Node([uuid, owner, dependencies, data.into()]);
    write_log(
        &files,
        1,
        false,
        &[node(&self::uuid(1)), big, Record::Complete],
    );
    let found = files.restore(None);
    assert_eq!(found.scene.nodes(), 2);
    assert!(found.scene.bytes() > 1_000_000);
}
