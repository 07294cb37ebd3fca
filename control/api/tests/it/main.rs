//! Tests of the API crate through its public face.

use plexsphere_api::{document, edge_operations};

#[test]
fn the_document_describes_each_operation_once_with_words_and_a_gate() {
    let operations = edge_operations();
    let all: Vec<_> = operations.iter().collect();
    let document = document(&all, "dev");
    assert_eq!(document["openapi"], "3.1.0");
    for operation in &operations {
        let described = &document["paths"][operation.path][operation.method.as_str().to_ascii_lowercase()];
        assert_eq!(described["operationId"], operation.id);
        assert!(described["summary"].as_str().is_some_and(|summary| !summary.is_empty()));
        assert!(described["responses"]["401"]["content"]["application/problem+json"].is_object());
    }
}

#[test]
fn ids_and_times_are_written_in_place() {
    let operations = edge_operations();
    let all: Vec<_> = operations.iter().collect();
    let document = document(&all, "dev");
    let receipt = &document["components"]["schemas"]["IngestReceipt"]["properties"]["accepted_at"];
    assert_eq!((receipt["type"].as_str(), receipt["format"].as_str()), (Some("string"), Some("date-time")));
    assert!(!document.to_string().contains("schemas/Uuid") && !document.to_string().contains("schemas/DateTime"));
}
