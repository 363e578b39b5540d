//! sku
