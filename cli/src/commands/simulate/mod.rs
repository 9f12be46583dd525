pub mod road;
