//! How our scalar types stand in the API document.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

/// The schema name of every id. The document writes it in place instead of as a reference.
pub const UUID: &str = "Uuid";
/// The schema name of a point in time. The document writes it in place instead of as a reference.
pub const DATE_TIME: &str = "DateTime";

/// A string schema with a format.
pub(crate) fn string(format: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::Custom(format.to_owned())))
        .build();
    RefOr::T(Schema::Object(object))
}
