"""Everything that is seen: the projector, the read model, the Streamlit pages."""
