//! How our scalar types stand in the API document.

use utoipa::ToSchema;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};

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

/// What marks a schema whose value may be `null`; without it the document takes every `null` back.
const NULLABLE: (&str, bool) = ("x-nullable", true);

/// A member that is `null` or a `T`. The schema of `T` is one that the operation names.
#[must_use]
pub fn nullable<T: ToSchema>() -> RefOr<Schema> {
    let either = OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)).build())
        .item(Ref::from_schema_name(T::name()))
        .extensions(Some(ExtensionsBuilder::new().add(NULLABLE.0, NULLABLE.1).build()));
    RefOr::T(Schema::OneOf(either.build()))
}

/// A member that is `null` or a list of objects that another context describes.
#[must_use]
pub fn nullable_list() -> RefOr<Schema> {
    let list = ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object)).build())))
        .extensions(Some(ExtensionsBuilder::new().add(NULLABLE.0, NULLABLE.1).build()));
    RefOr::T(Schema::Array(list.build()))
}
